//! A configuration as it may be shown to others: tables and keys as they are, values only where they are known to be no
//! secret. Comments are left out.
//!
//! Decided by where a key stands, not by what its value looks like: what is not named here is not shown, and so are
//! unknown keys and unknown tables.

use adapter_api::EndpointName;
use serde_json::{Map, Value, json};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// In place of a value.
const HIDDEN: &str = "***";

/// How a key's text may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Never: it is a secret, or nobody has said that it is none. Numbers neither.
    No,
    /// Always.
    Yes,
    /// If it is plainly the path of a file: the secret itself may have been written in place of its file's name.
    Path,
    /// If it is an address without a login in it.
    Url,
}

/// What may be shown of a text in TOML: JSON. Where it is not TOML, nothing.
pub fn redacted(text: &str) -> Value {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (doc, mistakes) = DeTable::parse_recoverable(text);
    if !mistakes.is_empty() {
        // What stands where in it is a guess.
        return json!({ "not_toml": mistakes.len(), "lines": text.lines().count(), "bytes": text.len() });
    }
    table(&[], doc.get_ref())
}

/// Whether a text that stands here is not shown.
pub(super) fn hidden(path: &[&str], text: &str) -> bool {
    !may_show(shown(path), text)
}

fn table(path: &[&str], table: &DeTable<'_>) -> Value {
    let members = table.iter().map(|(key, value)| {
        let key = key.get_ref().as_ref();
        let path: Vec<&str> = path.iter().copied().chain([key]).collect();
        (key.to_owned(), redacted_value(&path, value.get_ref()))
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn redacted_value(path: &[&str], value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Table(inner) if is_table(path) => table(path, inner),
        DeValue::Table(_) => json!(HIDDEN),
        DeValue::Array(items) if path.last().is_some_and(|key| LISTS.contains(key)) => {
            items.iter().map(|item| redacted_value(path, item.get_ref())).collect()
        }
        DeValue::String(text) if may_show(shown(path), text) => json!(text),
        DeValue::Boolean(value) if shown(path) == Shown::Yes => json!(value),
        DeValue::Integer(number) if shown(path) == Shown::Yes => json!(number.to_string()),
        DeValue::Float(number) if shown(path) == Shown::Yes => json!(number.to_string()),
        _ => json!(HIDDEN),
    }
}

fn may_show(shown: Shown, text: &str) -> bool {
    match shown {
        Shown::No => false,
        Shown::Yes => true,
        Shown::Path => Path::new(text).is_absolute() && Path::new(text).components().count() > 2,
        Shown::Url => super::uplink::is_address(text),
    }
}

/// Whether a table may stand here, so that one looks into it.
fn is_table(path: &[&str]) -> bool {
    // A name that is none may be a token in the wrong place.
    let name = |name: &str| EndpointName::new(name).is_ok();
    match path {
        ["gateway" | "log" | "http" | "clock" | "store" | "quota" | "uplink" | "adapters" | "endpoints"] => {
            true
        }
        ["log", "targets"] => true,
        ["uplink", "tls" | "replay" | "limits" | "kaa" | "plain"] => true,
        ["adapters", "modbus" | "test"] => true,
        ["adapters", "modbus" | "test", unit] | ["adapters", "modbus", unit, "rs485"] => name(unit),
        ["endpoints", endpoint] | ["endpoints", endpoint, "modbus" | "test" | "quota" | "report"] => {
            name(endpoint)
        }
        ["endpoints", endpoint, "name_on_wire"] => name(endpoint),
        ["endpoints", endpoint, "modbus" | "report", "resources" | "expressions"] => name(endpoint),
        ["endpoints", endpoint, "modbus" | "report", "resources", _] => name(endpoint),
        ["endpoints", endpoint, "modbus", "resources", _, "enum"] => name(endpoint),
        _ => false,
    }
}

fn shown(path: &[&str]) -> Shown {
    let yes = |known: bool| if known { Shown::Yes } else { Shown::No };
    match path {
        ["gateway", key] => yes(["state_dir", "control_socket", "endpoint"].contains(key)),
        ["log", "level"] | ["log", "targets", _] => Shown::Yes,
        ["http", "token_file"] => Shown::Path,
        ["http", key] => yes(["listen", "hosts", "metrics_per_endpoint"].contains(key)),
        ["clock", key] => yes(["trust", "hold", "device_time"].contains(key)),
        ["store", key] => yes(STORE.contains(key)),
        ["quota", key] | ["endpoints", _, "quota", key] => yes(QUOTA.contains(key)),
        ["uplink", "urls"] => Shown::Url,
        ["uplink", "password_file"] | ["uplink", "tls", "ca_file" | "cert_file" | "key_file"] => Shown::Path,
        ["uplink", key] => yes(UPLINK.contains(key)),
        ["uplink", "tls", key] => yes(["server_name", "alpn"].contains(key)),
        ["uplink", "replay", key] => yes(["order", "live_age", "share", "max_rate"].contains(key)),
        ["uplink", "limits", key] => {
            yes(["max_messages_per_s", "max_bytes_per_s", "daily_bytes"].contains(key))
        }
        ["uplink", "kaa" | "plain", key] => yes(DIALECT.contains(key)),
        ["adapters", "modbus", _, key] => yes(LINE.contains(key)),
        ["adapters", "modbus", _, "rs485", key] => yes(RS485.contains(key)),
        ["adapters", "test", _, key] => yes(*key == "listen"),
        ["endpoints", _, "token_file"] => Shown::Path,
        ["endpoints", _, key] => yes(["tenant", "enabled", "adapter", "formerly"].contains(key)),
        ["endpoints", _, "name_on_wire" | "report", ..] => of_report(path),
        ["endpoints", _, "modbus", key] => yes(DEVICE.contains(key)),
        ["endpoints", _, "modbus", "resources", _, key] => yes(REGISTER.contains(key)),
        ["endpoints", _, "modbus", "resources", _, "enum", _] => Shown::Yes,
        _ => Shown::No,
    }
}

fn of_report(path: &[&str]) -> Shown {
    match path {
        ["endpoints", _, "name_on_wire" | "report", _] | ["endpoints", _, "report", "expressions", _] => {
            Shown::Yes
        }
        ["endpoints", _, "report", "resources", _, _] => Shown::Yes,
        _ => Shown::No,
    }
}

/// Keys whose value is a list; another key's is a mistake.
const LISTS: [&str; 6] = ["urls", "alpn", "hosts", "formerly", "only", "sentinels"];
const STORE: [&str; 6] =
    ["commit_within", "max_sample_bytes", "max_bytes", "max_age", "min_free", "when_full"];
const QUOTA: [&str; 3] = ["samples_per_s", "bytes_per_s", "bytes_queued"];
const UPLINK: [&str; 11] = [
    "kind",
    "client_id",
    "username",
    "keep_alive",
    "confirm_timeout",
    "retry_min",
    "retry_max",
    "probe_min",
    "probe_max",
    "max_payload",
    "insecure",
];
const DIALECT: [&str; 10] = [
    "app_version",
    "dcx",
    "subscribe",
    "topic",
    "format",
    "batch",
    "timestamp_field",
    "timestamp_format",
    "quality",
    "qos",
];
const LINE: [&str; 15] = [
    "host",
    "port",
    "framing",
    "baud",
    "parity",
    "stop_bits",
    "data_bits",
    "rs485",
    "echo",
    "gap",
    "timeout",
    "quarantine",
    "connect_timeout",
    "connect_delay",
    "connections",
];
const RS485: [&str; 5] = ["by", "rts_on_send", "rts_after_send", "delay_before", "delay_after"];
const DEVICE: [&str; 13] = [
    "host",
    "unit",
    "base",
    "period",
    "timeout",
    "max_response",
    "gap",
    "connect_delay",
    "max_registers",
    "max_bits",
    "max_hole",
    "profile",
    "only",
];
const REGISTER: [&str; 13] = [
    "register",
    "type",
    "order",
    "length",
    "byte",
    "bit",
    "bits",
    "sentinels",
    "scale",
    "offset",
    "decimals",
    "period",
    "base",
];

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config.example.toml");

    #[test]
    fn a_secret_is_not_shown_wherever_it_stands() {
        let text = r#"
            SECRET = "SECRET-a"
            [gateway]
            state_dir = "/var/lib/tidegate"
            token = "SECRET-b"
            [uplink]
            kind = "kaa"
            urls = ["mqtts://good:8883", "mqtts://g:SECRET-c@h", "SECRET-d"]
            username = "gateway-1"
            password = "SECRET-e"
            password_file = "SECRET-f"
            pasword_file = "/etc/SECRET-g/x/y"
            client_id = { a = "SECRET-h" }
            [uplink.tls]
            key_file = "/etc/tidegate/key.pem"
            cert_file = "/SECRET-i"
            ca_file = ["SECRET-j"]
            [uplink.secret]
            kind = "SECRET-k"
            [adapters.modbus.site]
            host = "h"
            key = "SECRET-l"
            [endpoints.m1]
            token = "SECRET-m"
            token_file = "/etc/tidegate/m1.token"
            enabled = true
            [endpoints.m1.modbus]
            unit = 7
            profile = { x = "SECRET-n" }
            [endpoints.m2]
            token = 12345
            [endpoints.m2.lorawan]
            profile = "SECRET-o"
        "#;
        let shown = redacted(text);
        let at =
            |pointer: &str| shown.pointer(pointer).cloned().unwrap_or_else(|| panic!("{pointer}: {shown}"));
        for (pointer, value) in [
            ("/gateway/state_dir", "/var/lib/tidegate"),
            ("/uplink/urls/0", "mqtts://good:8883"),
            ("/uplink/urls/1", HIDDEN),
            ("/uplink/username", "gateway-1"),
            ("/uplink/tls/key_file", "/etc/tidegate/key.pem"),
            ("/uplink/secret", HIDDEN),
            ("/endpoints/m1/token", HIDDEN),
            ("/endpoints/m1/token_file", "/etc/tidegate/m1.token"),
            ("/endpoints/m1/modbus/unit", "7"),
            ("/endpoints/m2/token", HIDDEN),
            ("/endpoints/m2/lorawan", HIDDEN),
        ] {
            assert_eq!(at(pointer), value, "{pointer}");
        }
        assert_eq!(at("/endpoints/m1/enabled"), true);
        assert!(!shown.to_string().contains("SECRET-") && !shown.to_string().contains("12345"), "{shown}");
    }

    #[test]
    fn of_what_is_not_toml_nothing_is_shown() {
        for text in ["token = \"SECRET-a", "token = SECRET-a", "SECRET-a", "[endpoints.\"SECRET-a]"] {
            let shown = redacted(text);
            assert!(!shown.to_string().contains("SECRET"), "{shown}");
            assert!(shown.get("not_toml").is_some(), "{shown}");
        }
    }

    #[test]
    fn of_the_example_all_is_shown_but_the_token() {
        fn hidden(value: &Value, path: &str, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    members.iter().for_each(|(key, value)| hidden(value, &format!("{path}/{key}"), found));
                }
                Value::String(text) if text == HIDDEN => found.push(path.to_owned()),
                _ => {}
            }
        }
        let mut found = Vec::new();
        hidden(&redacted(EXAMPLE), "", &mut found);
        assert_eq!(found, ["/endpoints/boiler-7/token"]);
    }
}
