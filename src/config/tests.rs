//! What is said to wrong configurations, file by file; the example; and whatever else people type.
//!
//! A case is a file of `tests/data/config` whose last lines, after `#: `, are what is expected of it.
//! With `TIDEGATE_BLESS=1` they are written anew, to be read before they are committed.

use super::*;
use crate::uplink::pacing::{Limits, Order, Replay};
use proptest::prelude::*;
use std::{collections::BTreeSet, fmt::Write as _, fs, os::unix::fs::PermissionsExt};

/// Stands wherever a case has a secret at the wrong place.
const SECRET: &str = "hunter2";
const EXAMPLE: &str = include_str!("../../config.example.toml");

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config")
}

/// One that is good for two thousand years.
fn certificate() -> String {
    rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap().cert.pem()
}

/// What a file of this text gets to read, without its name.
fn said(text: &str, dir: &Path) -> String {
    let (line, findings) = match Config::parse(text, "F", dir) {
        Ok((_, warnings)) => ("ok", warnings),
        Err(findings) => ("refused", findings.iter().cloned().collect()),
    };
    let mut said = format!("{line}\n");
    for finding in findings {
        let shown = finding.to_string().replace(&dir.display().to_string(), "DIR");
        writeln!(said, "{}", shown.strip_prefix("F:").unwrap_or(&shown)).unwrap();
    }
    said
}

#[test]
fn no_other_gateway_is_taken_for_that_of_a_file_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("second.toml");
    let told = control_socket(&file).unwrap_err().to_string();
    assert!(told.contains("second.toml: No such file") && told.contains("--socket"), "{told}");
    let default = PathBuf::from("/run/tidegate/control.sock");
    for (text, socket) in [
        (&b"[gateway]\ncontrol_socket = '/run/x'\n"[..], PathBuf::from("/run/x")),
        (b"[gateway]\ncontrol_socket = 'x'\n", dir.path().join("x")),
        // What is wrong elsewhere in it is for `check`.
        (b"[gateway]\ncontrol_socket = '/run/x'\n[uplink\nk = '\xff'\n", PathBuf::from("/run/x")),
        (b"[clock]\n", default.clone()),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(control_socket(&file).unwrap(), socket, "{}", String::from_utf8_lossy(text));
    }
    // Whoever may not read the packaged one may still ask for the status.
    if !Path::new(PACKAGED_FILE).exists() {
        assert_eq!(control_socket(Path::new(PACKAGED_FILE)).unwrap(), default);
    }
}

fn findings(text: &str) -> Vec<String> {
    let findings = match Config::parse(text, "F", &data()) {
        Ok((_, warnings)) => warnings,
        Err(findings) => findings.iter().cloned().collect(),
    };
    findings.iter().map(ToString::to_string).collect()
}

fn refusal(path: &Path) -> String {
    Config::load(path).unwrap_err().to_string()
}

#[test]
fn a_mistake_made_for_each_of_many_endpoints_is_shown_so_often_that_it_can_be_read() {
    let text: String = (0..1_000).map(|n| format!("[endpoints.e{n}]\ntokken = \"t\"\n")).collect();
    let findings = Config::parse(&text, "F", &data()).unwrap_err();
    let (all, said) = (findings.iter().count(), findings.to_string());
    let first = said.lines().filter(|line| line.starts_with("F:")).count();
    assert_eq!(said.lines().last(), Some("and 980 more like these"));
    assert!(all == 2_001 && first == 41, "{first} of {all}");
}

#[test]
fn every_case_gets_its_findings() {
    // Git keeps no more of a file's mode than whether it can be run.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), certificate()).unwrap();
    for file in ["token.txt", "empty.txt", "key.pem"] {
        fs::copy(data().join(file), dir.path().join(file)).unwrap();
        fs::set_permissions(dir.path().join(file), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let mut cases: Vec<PathBuf> = fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    cases.sort();
    assert!(cases.len() > 20, "the cases are gone");
    let mut wrong = String::new();
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let (input, expected): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| !line.starts_with("#: "));
        let input = input.join("\n") + "\n";
        let said = said(&input, dir.path());
        assert!(!said.contains(SECRET), "{}: printed the secret:\n{said}", case.display());
        let comment: String = said.lines().map(|line| format!("#: {line}\n")).collect();
        let expected: String = expected.iter().map(|line| format!("{line}\n")).collect();
        if comment != expected {
            writeln!(wrong, "{}: says\n{comment}", case.display()).unwrap();
            if std::env::var_os("TIDEGATE_BLESS").is_some() {
                fs::write(&case, input + &comment).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_example_is_taken_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let (config, warnings) = Config::load(&path).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.endpoints.len(), 1);
    assert_eq!(config.adapters.modbus["boiler-room"].devices.len(), 1);
    assert_eq!(config.directory().len(), 1);
}

/// Tables of the example whose keys serde is asked for.
const TABLES: [&str; 18] = [
    "gateway",
    "log",
    "clock",
    "store",
    "quota",
    "http",
    "uplink",
    "uplink.tls",
    "uplink.replay",
    "uplink.limits",
    "uplink.kaa",
    "uplink.plain",
    "adapters.modbus.boiler-room",
    "endpoints.boiler-7.quota",
    "endpoints.boiler-7.report",
    "endpoints.boiler-7.report.resources.temperature",
    "endpoints.boiler-7.modbus",
    "endpoints.boiler-7.modbus.resources.temperature",
];

#[test]
fn the_example_has_every_key() {
    let mut table = String::new();
    let mut shown = BTreeSet::new();
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = header.to_owned();
            if let Some((above, key)) = header.rsplit_once('.') {
                shown.insert((above.to_owned(), key.to_owned()));
            }
        } else if let Some((key, _)) = line.split_once(" = ") {
            shown.insert((table.clone(), key.to_owned()));
        }
    }
    let mut count = 0;
    for table in TABLES.into_iter().chain(["endpoints.boiler-7"]) {
        let said = findings(&format!("[{table}]\nqqqqqqqq = 1\n"));
        let known = said.iter().find(|f| f.contains("qqqqqqqq")).and_then(|f| f.split_once("known here: "));
        let (_, known) = known.unwrap_or_else(|| panic!("[{table}]: {said:?}"));
        for key in known.split(", ") {
            count += 1;
            assert!(
                shown.contains(&(table.to_owned(), key.to_owned())),
                "config.example.toml lacks {table}.{key}"
            );
        }
    }
    assert!(count > 50, "{count} keys");
    // And the other way round: no table whose keys nobody compares.
    for (table, key) in
        shown.iter().filter(|(_, key)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    {
        let known =
            TABLES.contains(&table.as_str()) || table.starts_with("endpoints.") || table == "adapters";
        assert!(known || TABLES.contains(&key.as_str()), "[{table}] {key}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    let shown = path.display().to_string();
    assert_eq!(refusal(&path), format!("{shown}: error[TG-301]: there is no such file"));
    assert_eq!(
        refusal(dir.path()),
        format!("{}: error[TG-301]: a directory, not a file", dir.path().display())
    );
    fs::write(&path, b"[gateway]\nx = \"hunter2\xff\"\n").unwrap();
    let said = "error[TG-302]: not UTF-8 text from here on; save the file as UTF-8";
    assert_eq!(refusal(&path), format!("{shown}:2:13: {said}"));
    fs::write(&path, vec![b'#'; 10_000_000]).unwrap();
    assert_eq!(
        refusal(&path),
        format!("{shown}: error[TG-301]: larger than 8 MiB, which no configuration is")
    );
}

#[test]
fn relative_paths_are_those_of_the_files_directory() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("password", "pass word\r\n"), ("token", "abc\n"), ("ca.pem", &certificate())] {
        fs::write(dir.path().join(name), content).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = dir.path().join("t.toml");
    let text = EXAMPLE
        .replace("token = \"REPLACE-ME\"", "token_file = \"token\"")
        .replace("# username", "username")
        .replace("# password_file", "password_file")
        .replace("# ca_file", "ca_file")
        .replace("\"/var/lib/tidegate\"", "\"state\"");
    fs::write(&path, text).unwrap();
    let (config, warnings) = Config::load(&path).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.gateway.state_dir, dir.path().join("state"));
    assert_eq!(config.gateway.control_socket, Path::new("/run/tidegate/control.sock"));
    assert_eq!(config.endpoints[0].token.expose(), "abc");
    let Uplink::Mqtt(uplink) = &config.uplink else { panic!("no uplink") };
    assert_eq!(uplink.tls.ca_file, Some(dir.path().join("ca.pem")));
    assert_eq!(uplink.login.as_ref().unwrap().password.as_ref().unwrap().expose(), "pass word");
    assert_eq!(uplink.retry, Duration::from_secs(5)..=Duration::from_secs(600));
    let shown = format!("{config:?}");
    assert!(!shown.contains("pass word") && !shown.contains("abc"), "{shown}");
}

#[test]
fn replay_and_limits_are_what_the_file_says() {
    let uplink = |text: &str| {
        let (config, warnings) = Config::parse(text, "F", &data()).unwrap();
        assert_eq!(warnings, []);
        let Uplink::Mqtt(uplink) = config.uplink else { panic!("no uplink") };
        (uplink.replay, uplink.limits)
    };
    assert_eq!(uplink(EXAMPLE), (Replay::default(), Limits::default()));
    let text = EXAMPLE
        .replace("order = \"in-order\"", "order = \"live-first\"")
        .replace("live_age = \"60s\"", "live_age = \"5s\"")
        .replace("share = 50", "share = 20")
        .replace("# max_rate =", "max_rate =")
        .replace("# max_messages", "max_messages")
        .replace("# max_bytes_per_s =", "max_bytes_per_s =")
        .replace("# daily_bytes =", "daily_bytes =");
    let live_age = Duration::from_secs(5);
    let replay = Replay { order: Order::LiveFirst, live_age, share: 20, max_rate: Some(500) };
    let limits =
        Limits { messages_per_s: Some(50), bytes_per_s: Some(20_000), daily_bytes: Some(20_000_000) };
    assert_eq!(uplink(&text), (replay, limits));
}

#[test]
fn a_credential_open_to_all_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "abc\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let text = EXAMPLE.replace("token = \"REPLACE-ME\"", "token_file = \"token\"");
    let (_, warnings) = Config::parse(&text, "F", dir.path()).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].severity, Severity::Warning);
    assert!(warnings[0].what.ends_with("can be read by every user"), "{warnings:?}");
}

#[test]
fn a_disabled_endpoint_has_a_token_and_no_device() {
    let text = EXAMPLE.replace("enabled = true", "enabled = false");
    let (config, warnings) = Config::parse(&text, "F", &data()).unwrap();
    assert_eq!(warnings, []);
    assert!(!config.endpoints[0].enabled);
    assert!(config.adapters.modbus["boiler-room"].devices.is_empty());
}

#[cfg(not(feature = "test-hooks"))]
#[test]
fn an_adapter_that_is_not_in_this_build_is_an_error() {
    let said =
        findings("uplink.kind = \"none\"\n[adapters.test.a]\n[endpoints.e]\ntoken = \"t\"\ntest = {}\n");
    assert_eq!(said.iter().filter(|f| f.contains("is not part of this build")).count(), 2, "{said:?}");
}

#[cfg(not(feature = "test-hooks"))]
#[test]
fn an_endpoint_behind_two_adapters_is_an_error() {
    let said = findings("uplink.kind = \"none\"\n[endpoints.e]\ntoken = \"t\"\nmodbus = {}\ntest = {}\n");
    assert!(said.iter().any(|f| f.contains("this one has both `modbus` and `test`")), "{said:?}");
}

#[cfg(feature = "test-hooks")]
#[test]
fn devices_that_get_answers_need_a_platform() {
    let said = findings("uplink.kind = \"none\"\n[adapters.test.a]\nlisten = \"127.0.0.1:0\"\n");
    let expected =
        "F:1:15: warning: uplink.kind: the devices of [adapters.test.a] are told that their data is kept";
    assert!(said.iter().any(|f| f.starts_with(expected)), "{said:?}");
}

#[test]
fn ten_thousand_endpoints_are_read_in_no_time() {
    let mut text = "uplink.kind = \"none\"\nadapters.modbus.a.host = \"h\"\n".to_owned();
    for n in 0..10_000 {
        let device =
            "unit = 1\n[endpoints.N.modbus.resources]\na = { register = \"input:1\", type = \"i16\" }\n";
        let endpoint = format!("[endpoints.N]\ntoken = \"t{n}\"\n[endpoints.N.modbus]\n{device}");
        text.push_str(&endpoint.replace("endpoints.N", &format!("endpoints.e{n}")));
    }
    let (config, warnings) = Config::parse(&text, "F", &data()).unwrap();
    assert_eq!((config.endpoints.len(), warnings.len()), (10_000, 0));
}

#[test]
fn copies_of_a_configuration_share_its_endpoints_and_devices() {
    let endpoint = |name: &str| {
        let device = "unit = 1\nresources.a = { register = \"input:1\", type = \"i16\" }";
        format!("[endpoints.{name}]\ntoken = \"{name}\"\n[endpoints.{name}.modbus]\n{device}\n")
    };
    let text = ["x", "y", "z"].map(endpoint).concat();
    let text = format!("uplink.kind = \"none\"\nadapters.modbus.a.host = \"h\"\n{text}");
    let (config, _) = Config::parse(&text, "F", &data()).unwrap();
    let name = |name: &str| EndpointName::new(name).unwrap();
    let (whole, less) =
        (config.without(&BTreeSet::from([name("other")])), config.without(&[name("y")].into()));
    let shared = |copy: &Config| -> Vec<bool> {
        config.endpoints.iter().zip(&copy.endpoints).map(|(one, other)| Arc::ptr_eq(one, other)).collect()
    };
    assert_eq!((shared(&whole), shared(&less)), (vec![true; 3], vec![true, false, true]));
    let devices = |config: &Config| config.adapters.modbus["a"].devices.clone();
    assert!(Arc::ptr_eq(&devices(&config), &devices(&whole)));
    assert_eq!(
        (devices(&config).len(), devices(&less).len()),
        (3, 2),
        "what is left out is left out of the copy"
    );
    let (mut again, _) =
        Config::parse(&text.replace("token = \"y\"", "token = \"other\""), "F", &data()).unwrap();
    assert_eq!(shared(&again), [false; 3]);
    again.share(&config);
    assert_eq!(shared(&again), [true, false, true], "what is the same in a file that changed");
    assert_eq!(again.endpoints[1].token.expose(), "other");
    let directory = config.directory();
    for endpoint in &config.endpoints {
        assert!(Arc::ptr_eq(endpoint, directory.by_key(&endpoint.key).unwrap()));
        // Their texts as well, where they have the same.
        let first = &config.endpoints[0];
        assert!(std::ptr::eq(endpoint.unit.as_deref().unwrap(), first.unit.as_deref().unwrap()));
        assert!(std::ptr::eq(endpoint.key.tenant.as_str(), first.key.tenant.as_str()));
    }
}

/// A place of the example and something typed over it.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, String)>> {
    let piece = prop_oneof![
        "[\\[\\]{}\"'=.,#\n a-z0-9\\\\-]{0,6}",
        Just("\"\"\"".to_owned()),
        Just("[[".to_owned()),
        Just("-1".to_owned()),
        Just("1e999".to_owned()),
        Just("\u{202e}é\u{1f600}".to_owned()),
        Just("true".to_owned()),
        Just("{}".to_owned()),
    ];
    prop::collection::vec((0..EXAMPLE.len(), 0..40_usize, piece), 1..4)
}

fn edited(edits: Vec<(usize, usize, String)>) -> String {
    let mut text: Vec<char> = EXAMPLE.chars().collect();
    for (at, length, piece) in edits {
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, piece.chars());
    }
    text.into_iter().collect()
}

/// A key with a value of the wrong kind that holds a secret.
fn misplaced() -> impl Strategy<Value = String> {
    let lines: Vec<usize> =
        EXAMPLE.lines().enumerate().filter(|(_, l)| l.contains(" = ")).map(|(n, _)| n).collect();
    let shapes = [
        "\"hunter2\"",
        "[\"hunter2\"]",
        "{ a = \"hunter2\" }",
        "\"hunter2",
        "hunter2",
        "'x, expected `hunter2`'",
    ];
    (prop::sample::select(lines), prop::sample::select(shapes.to_vec())).prop_map(|(line, value)| {
        let lines = EXAMPLE.lines().enumerate().map(|(n, text)| {
            let text = if n == line { text.strip_prefix("# ").unwrap_or(text) } else { text };
            match text.split_once(" = ") {
                Some((key, _)) if n == line => format!("{key} = {value}\n"),
                _ => format!("{text}\n"),
            }
        });
        lines.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _said = findings(&text);
    }

    #[test]
    fn no_slip_in_the_example_makes_it_panic(edits in edits()) {
        let _said = findings(&edited(edits));
    }

    #[test]
    fn a_secret_at_the_wrong_place_is_not_printed(text in misplaced()) {
        let said = findings(&text).join("\n");
        prop_assert!(!said.contains(SECRET), "{said}");
    }
}
