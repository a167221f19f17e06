//! `[uplink]`: where the platform is, how it is reached, and in which dialect.

use super::{
    check::{Half, KeyPath, Notes, Severity},
    files::{self, Base},
    low, pem, range,
    secret::Secret,
    suggest,
};
use crate::{
    dialect::{Dialect, kaa::Kaa, plain::Plain},
    uplink::pacing::{Limits, Order, Replay},
};
use adapter_api::Span;
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

/// Where samples go.
#[derive(Debug, Clone, PartialEq)]
pub enum Uplink {
    /// Nowhere: values are visible on the gateway only.
    None,
    /// To a platform, over MQTT.
    Mqtt(Box<UplinkConfig>),
}

/// A platform, over MQTT.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinkConfig {
    /// Tried in turn; at least one.
    pub addresses: Vec<Address>,
    /// Otherwise drawn once and kept in the store.
    pub client_id: Option<String>,
    /// Of MQTT's CONNECT.
    pub login: Option<Login>,
    /// MQTT's keep-alive.
    pub keep_alive: Duration,
    /// How long something due may stay without any progress, and a reply after its PUBACK.
    pub confirm_timeout: Duration,
    /// Between the attempts to send a flight that got no reply.
    pub retry: RangeInclusive<Duration>,
    /// Between the attempts with an endpoint that the platform refuses.
    pub probe: RangeInclusive<Duration>,
    /// Of one frame's body, in bytes.
    pub max_payload: usize,
    /// What goes first after an outage.
    pub replay: Replay,
    /// What may be sent in a second and in a day.
    pub limits: Limits,
    /// For addresses with TLS.
    pub tls: TlsConfig,
    /// The platform's language.
    pub dialect: Dialect,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `mqtts`
    pub tls: bool,
}

/// Name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// `uplink.username`
    pub username: String,
    /// What `uplink.password_file` holds.
    pub password: Option<Secret>,
}

/// Files of TLS; absolute, or relative to the working directory where the configuration is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// Own authorities in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Own certificate with its chain, only together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The certificate's key.
    pub key_file: Option<PathBuf>,
    /// The name the platform's certificate must carry, where it is not the address's host.
    pub server_name: Option<String>,
    /// Protocols offered in the handshake (RFC 7301), for ports that serve several; none by default.
    pub alpn: Vec<String>,
    /// Of what the files hold: they are read at each connection, and another one is made when they change.
    pub content: u64,
}

const KINDS: [&str; 3] = ["kaa", "plain", "none"];

/// Checks `[uplink]`. `None` only together with an error.
pub(super) fn check(notes: &mut Notes<'_>, low: low::Uplink, base: Base<'_>) -> Option<Uplink> {
    let at = KeyPath::new(&["uplink"]);
    let kind = kind(notes, &at, low.kind.as_deref())?;
    if kind == "none" {
        return Some(Uplink::None);
    }
    let addresses = addresses(notes, &at, &low.urls, low.insecure);
    let login = login(notes, &at, &low, base);
    let tls = tls(notes, &at.key("tls"), &low.tls, base);
    check_client_id(notes, &at.key("client_id"), low.client_id.as_deref());
    let keep_alive = span(notes, &at.key("keep_alive"), low.keep_alive, KEEP_ALIVE);
    let confirm_timeout = span(notes, &at.key("confirm_timeout"), low.confirm_timeout, CONFIRM);
    let retry = spans(notes, &at, ("retry_min", low.retry_min), ("retry_max", low.retry_max));
    let probe = spans(notes, &at, ("probe_min", low.probe_min), ("probe_max", low.probe_max));
    let max_payload = range(notes, &at.key("max_payload"), low.max_payload, 256..=1_048_576);
    let replay = replay(notes, &at.key("replay"), &low.replay);
    let limits = limits(notes, &at.key("limits"), &low.limits);
    let dialect = match kind {
        "kaa" => low.kaa.map(|config| Dialect::Kaa(Kaa { config })),
        _ => low.plain.map(|config| Dialect::Plain(Plain { config })),
    };
    let Some(dialect) = dialect else {
        let what = format!("uplink.kind = \"{kind}\" needs a table [uplink.{kind}]");
        notes.error_with(&at.key(kind), what, format!("add [uplink.{kind}]; see config.example.toml"));
        return None;
    };
    for (path, why, hint) in dialect.check_config() {
        notes.add(Severity::Error, &at.key(kind).below(path), Half::Value, why, hint);
    }
    let client_id = low.client_id;
    Some(Uplink::Mqtt(Box::new(UplinkConfig {
        addresses,
        client_id,
        login,
        keep_alive,
        confirm_timeout,
        retry,
        probe,
        max_payload,
        replay,
        limits,
        tls,
        dialect,
    })))
}

/// Checks `uplink.kind` against the tables present.
fn kind(notes: &mut Notes<'_>, at: &KeyPath, kind: Option<&str>) -> Option<&'static str> {
    let key = at.key("kind");
    let Some(kind) = kind else {
        let hint = "write kind = \"kaa\" or \"plain\", or \"none\" to run without a platform";
        notes.error_with(&key, "is missing", hint);
        return None;
    };
    let Some(known) = KINDS.into_iter().find(|known| *known == kind) else {
        let what = "expected \"kaa\", \"plain\" or \"none\"".to_owned();
        notes.add(Severity::Error, &key, Half::Value, what, suggest::did_you_mean(kind, KINDS));
        return None;
    };
    let hint = "remove the table, or change uplink.kind";
    for table in ["kaa", "plain"].into_iter().filter(|table| *table != known).map(|table| at.key(table)) {
        if notes.has(&table) && known == "none" {
            // To do without the platform for a while is no mistake.
            notes.warn(&table, "not used with kind = \"none\"", hint);
        } else if notes.has(&table) {
            let what = format!("this table is of another kind than uplink.kind = \"{known}\"");
            notes.error_with(&table, what, hint);
        }
    }
    Some(known)
}

// MQTT 3.1.1 §3.1.2.10: the keep-alive has 16 bits of seconds.
const KEEP_ALIVE: [Span; 2] = [Span::from_secs(5), Span::from_secs(65_535)];
const CONFIRM: [Span; 2] = [Span::from_secs(1), Span::from_secs(3_600)];
const PAUSE: [Span; 2] = [Span::from_millis(100), Span::from_secs(86_400)];

fn span(notes: &mut Notes<'_>, key: &KeyPath, span: Span, [least, most]: [Span; 2]) -> Duration {
    if span < least || span > most {
        notes.error(key, format!("out of range: expected \"{least}\" to \"{most}\""));
    }
    span.duration()
}

fn spans(
    notes: &mut Notes<'_>,
    at: &KeyPath,
    (min_key, min): (&str, Span),
    (max_key, max): (&str, Span),
) -> RangeInclusive<Duration> {
    let (low, high) = (span(notes, &at.key(min_key), min, PAUSE), span(notes, &at.key(max_key), max, PAUSE));
    if low > high {
        // Where only one of the two is written, that one is meant.
        let key = if notes.has(&at.key(min_key)) { min_key } else { max_key };
        notes.error(&at.key(key), format!("{min_key} is longer than {max_key}"));
    }
    low..=high
}

const LIVE: [Span; 2] = [Span::from_secs(1), Span::from_secs(86_400)];
/// Samples, publishes or bytes in a second.
const RATE: RangeInclusive<u64> = 1..=1_000_000_000;

fn replay(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Replay) -> Replay {
    let live_age = span(notes, &at.key("live_age"), low.live_age, LIVE);
    let share = range(notes, &at.key("share"), low.share, 1..=100);
    let max_rate = rate(notes, &at.key("max_rate"), low.max_rate);
    if low.order == Order::InOrder {
        let hint = "write order = \"live-first\", or remove the key";
        for key in ["live_age", "share", "max_rate"].map(|key| at.key(key)) {
            if notes.has(&key) && !notes.has(&at.key("order")) {
                notes.warn(&key, "not used with replay.order = \"in-order\"", hint);
            }
        }
    }
    Replay { order: low.order, live_age, share, max_rate }
}

fn limits(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Limits) -> Limits {
    if let Some(daily) = low.daily_bytes {
        range(notes, &at.key("daily_bytes"), daily, 65_536..=1_000_000_000_000_000);
    }
    Limits {
        messages_per_s: rate(notes, &at.key("max_messages_per_s"), low.max_messages_per_s),
        bytes_per_s: rate(notes, &at.key("max_bytes_per_s"), low.max_bytes_per_s),
        daily_bytes: low.daily_bytes,
    }
}

fn rate(notes: &mut Notes<'_>, key: &KeyPath, rate: Option<u64>) -> Option<u32> {
    rate.map(|rate| u32::try_from(range(notes, key, rate, RATE)).unwrap_or(u32::MAX))
}

fn check_client_id(notes: &mut Notes<'_>, key: &KeyPath, id: Option<&str>) {
    if id.is_some_and(|id| id.is_empty() || id.len() > 128 || id.chars().any(char::is_control)) {
        notes.error_with(
            key,
            "a client id has 1 to 128 bytes and no control characters",
            "without it one is drawn",
        );
    }
}

fn login(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Uplink, base: Base<'_>) -> Option<Login> {
    let (name_key, file_key) = (at.key("username"), at.key("password_file"));
    let password = low.password_file.as_deref().and_then(|file| base.credential(notes, &file_key, file));
    match &low.username {
        Some(username) if username.is_empty() || username.chars().any(char::is_control) => {
            notes.error(&name_key, "a user name is not empty and has no control characters");
            None
        }
        Some(username) => {
            Some(Login { username: username.clone(), password: password.as_deref().map(Secret::new) })
        }
        None => {
            if low.password_file.is_some() {
                // MQTT 3.1.1 §3.1.2.9
                notes.error_with(&name_key, "is missing", "a password needs a user name beside it");
            }
            None
        }
    }
}

fn tls(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Tls, base: Base<'_>) -> TlsConfig {
    let (ca_key, cert_key, key_key) = (at.key("ca_file"), at.key("cert_file"), at.key("key_file"));
    if let Some(file) = &low.ca_file {
        base.pem(notes, &ca_key, file, pem::authorities);
    }
    let chain = low.cert_file.as_deref().and_then(|file| base.pem(notes, &cert_key, file, pem::certificates));
    if let Some(own) = chain.as_deref().and_then(<[_]>::first) {
        files::in_time(notes, &cert_key, own);
    }
    if let Some(file) = low.key_file.as_deref() {
        let key = base.pem(notes, &key_key, file, pem::private_key);
        if let (Some(chain), Some(key)) = (chain, key) {
            base.pem(notes, &key_key, file, |_| pem::identity(chain, key));
        }
        files::private(notes, &key_key, &base.path(file));
    }
    let path = |file: &Option<PathBuf>| file.as_deref().map(|file| base.path(file));
    let (ca_file, cert_file, key_file) = (path(&low.ca_file), path(&low.cert_file), path(&low.key_file));
    match (&cert_file, &key_file) {
        (Some(_), None) => {
            notes.error_with(&at.key("key_file"), "is missing", "cert_file and key_file go together");
        }
        (None, Some(_)) => {
            notes.error_with(&at.key("cert_file"), "is missing", "cert_file and key_file go together");
        }
        _ => {}
    }
    if low.server_name.as_deref().is_some_and(|name| !is_host(name)) {
        notes.error(&at.key("server_name"), "not a host name");
    }
    for (n, name) in low.alpn.iter().enumerate() {
        // RFC 7301 §3.1: a name has 1 to 255 bytes. What people use is printable.
        if !(1..=255).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
            let hint = "write the name the platform documents, such as alpn = [\"mqtt\"]";
            notes.error_with(&at.key("alpn").index(n), "not a protocol name", hint);
        }
    }
    let (server_name, alpn) = (low.server_name.clone(), low.alpn.clone());
    let content = files::digest([&ca_file, &cert_file, &key_file].into_iter().flatten());
    TlsConfig { ca_file, cert_file, key_file, server_name, alpn, content }
}

fn addresses(notes: &mut Notes<'_>, at: &KeyPath, urls: &[String], insecure: bool) -> Vec<Address> {
    let key = at.key("urls");
    if urls.is_empty() {
        notes.error_with(&key, "no address of the platform", "write urls = [\"mqtts://mqtt.example.com\"]");
    }
    let mut addresses = Vec::new();
    for (n, url) in urls.iter().enumerate() {
        match address(url) {
            Ok(address) if !address.tls && !insecure => {
                let hint = "write mqtts://, or allow it with insecure = true: everything, tokens too, can then be read on the way";
                notes.error_with(&key.index(n), "mqtt:// is without TLS", hint);
            }
            Ok(address) => addresses.push(address),
            Err((what, hint)) => notes.error_with(&key.index(n), what, hint),
        }
    }
    addresses
}

/// Whether this is an address, which holds no login then.
pub(super) fn is_address(url: &str) -> bool {
    address(url).is_ok()
}

/// Takes an address apart. What is wrong is said without quoting it: it may hold a password.
fn address(url: &str) -> Result<Address, (&'static str, &'static str)> {
    const FORM: &str = "write mqtts://HOST or mqtts://HOST:PORT";
    let (scheme, rest) = url.split_once("://").ok_or(("the address has no scheme", FORM))?;
    let (tls, default_port) = match scheme {
        "mqtts" => (true, 8883),
        "mqtt" => (false, 1883),
        "ssl" | "tls" | "tcps" => return Err(("unknown scheme", "for MQTT over TLS write mqtts://")),
        "tcp" => return Err(("unknown scheme", "for MQTT without TLS write mqtt://")),
        "ws" | "wss" => return Err(("WebSocket is not available in this version", FORM)),
        "http" | "https" => return Err(("HTTP is not available in this version", FORM)),
        _ => return Err(("unknown scheme", FORM)),
    };
    if rest.contains('@') {
        return Err(("a login does not belong into the address", "use username and password_file"));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(("an MQTT address ends with its port", FORM));
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(("unreadable port", FORM))?)),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let bracketed = rest.starts_with('[');
    if bracketed && host.parse::<std::net::Ipv6Addr>().is_err() || !bracketed && !is_host(host) {
        return Err(("not a host name or address", FORM));
    }
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().ok().filter(|port| *port > 0),
        Some(_) => None,
        None => Some(default_port),
    };
    let port = port.ok_or(("the port is not a number from 1 to 65535", FORM))?;
    Ok(Address { host: host.to_owned(), port, tls })
}

fn is_host(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=253).contains(&host.len()) && host.bytes().all(allowed) && !host.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (url, expected) in [
            ("mqtts://mqtt.example.com", Some(("mqtt.example.com", 8883, true))),
            ("mqtts://mqtt.example.com/", Some(("mqtt.example.com", 8883, true))),
            ("mqtt://10.0.0.1:1884", Some(("10.0.0.1", 1884, false))),
            ("mqtt://[::1]", Some(("::1", 1883, false))),
            ("mqtts://[fe80::1]:1", Some(("fe80::1", 1, true))),
            ("mqtt.example.com", None),
            ("tcp://mqtt.example.com", None),
            ("mqtts://", None),
            ("mqtts://:8883", None),
            ("mqtts://a:0", None),
            ("mqtts://a:65536", None),
            ("mqtts://a:+1", None),
            ("mqtts://a:", None),
            ("mqtts://a b", None),
            ("mqtts://a/b", None),
            ("mqtts://user:hunter2@a", None),
            ("mqtts://[::1]1", None),
            ("mqtts://[a]", None),
            ("mqtts://::1", None),
        ] {
            let expected = expected.map(|(host, port, tls)| Address { host: host.to_owned(), port, tls });
            assert_eq!(address(url).ok(), expected, "{url}");
        }
    }
}
