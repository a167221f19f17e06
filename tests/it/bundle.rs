//! `tidegate support-bundle`: everything that helps is in it, and no secret wherever somebody wrote one (I11).

use crate::{
    gateway::{Config, Gateway, binary},
    machine::Packaged,
    peers::Broker,
    pusher::Pusher,
    site::{Site, free_port},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

/// The files of a bundle, by name.
type Files = BTreeMap<String, String>;

fn pack(site: &Site, name: &str) -> Output {
    let mut command = Command::new(binary());
    command.arg("support-bundle").arg(site.path(name)).arg("-c").arg(site.path("tidegate.toml"));
    command.env("TIDEGATE_LOG", "trace").output().unwrap()
}

/// Packs and unpacks.
fn bundle(site: &Site, name: &str) -> Files {
    unpacked(site, name, pack(site, name))
}

fn unpacked(site: &Site, name: &str, packed: Output) -> Files {
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let mode = fs::metadata(site.path(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let dir = site.path(&format!("{name}.d"));
    fs::create_dir(&dir).unwrap();
    let tar = Command::new("tar").arg("-xzf").arg(site.path(name)).arg("-C").arg(&dir).output().unwrap();
    assert!(tar.status.success() && tar.stderr.is_empty(), "{tar:?}");
    let mut files = Files::new();
    for entry in fs::read_dir(dir.join("tidegate-support")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        files.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), text);
    }
    files.insert(
        "what was printed".to_owned(),
        String::from_utf8([packed.stdout, packed.stderr].concat()).unwrap(),
    );
    files
}

fn assert_secretless(site: &Site, files: &Files) {
    let key = fs::read_to_string(site.identity("gateway").key).unwrap();
    let key = key.lines().nth(1).unwrap();
    for (name, text) in files {
        for secret in ["SECRET-", "SECRET%2D", "U0VDUkVU", key] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{name} says {secret}");
        }
    }
}

#[test]
fn a_bundle_of_a_running_gateway_has_what_helps_and_no_secret() {
    let site = Site::new();
    let broker = Broker::start(&site, true);
    let (push, token, password) = (free_port(), site.path("two.token"), site.path("password"));
    fs::write(&token, "SECRET-two").unwrap();
    fs::write(&password, "SECRET-pass").unwrap();
    let config = Config::plain(&site, broker.port())
        .set("username", "gateway-1")
        .set("password_file", &password.display().to_string())
        .line(&format!(
            "# the old one was SECRET-comment\n[adapters.test.push]\nlisten = \"127.0.0.1:{push}\"\n\
             [endpoints.p1]\ntoken = \"SECRET-one\"\n[endpoints.p1.test]\n\
             [endpoints.p2]\ntoken_file = {token:?}\n[endpoints.p2.test]"
        ));
    let mut gateway = Gateway::new(&site, &config, 1);
    gateway.start();
    gateway.until_up();
    Pusher::connect(push).push("p1", "1-5");
    gateway.until_drained();
    let files = bundle(&site, "a.tar.gz");
    assert_secretless(&site, &files);
    for (name, text) in [
        ("about.json", "\"kernel\": \"Linux"),
        ("check.txt", "taken"),
        ("configuration.json", "\"token\": \"***\""),
        ("configuration.json", "\"username\": \"gateway-1\""),
        ("doctor.txt", "ok       TLS"),
        ("doctor.json", "\"verdict\": \"ok\""),
        ("status.json", "\"ledger\""),
        ("queue.json", "\"lanes\""),
        ("disk.txt", "tidegate.db"),
    ] {
        assert!(files[name].contains(text), "{name} lacks {text}: {}", files[name]);
    }
    let shown: Value = serde_json::from_str(&files["configuration.json"]).unwrap();
    assert_eq!(shown["endpoints"]["p2"]["token_file"], token.display().to_string());
    let again = pack(&site, "a.tar.gz");
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("is there already"), "{said}");
    assert!(gateway.terminate().success());
}

#[test]
fn a_bundle_of_a_configuration_with_mistakes_has_no_secret_either() {
    let site = Site::new();
    let config = Config::plain(&site, 1).pushed(1, free_port());
    let _gateway = Gateway::new(&site, &config, 1);
    let file = site.path("tidegate.toml");
    let good = fs::read_to_string(&file).unwrap();
    for (n, wrong) in [
        "[endpoints.p2]\ntokn = \"SECRET-one\"\ntoken = 'SECRET-two'\n[endpoints.p2.test]\nlisten = \"SECRET-three\"",
        "[uplink.kaa]\napp_version = \"demo\"\ntoken = \"SECRET-one\"\n[secrets]\na = [\"SECRET-two\", { b = \"SECRET-three\" }]",
        "[endpoints.p2]\ntoken_file = \"SECRET-one\"\n[endpoints.p2.modbus]\nprofile = [\"SECRET-two\"]",
        "[endpoints.p2]\ntoken = \"SECRET-one",
        "[endpoints.p2]\ntoken = SECRET-one",
    ]
    .iter()
    .enumerate()
    {
        let address = "mqtts://g:SECRET-four@localhost";
        fs::write(&file, good.replace("mqtts://localhost", address) + wrong).unwrap();
        let files = bundle(&site, &format!("{n}.tar.gz"));
        assert_secretless(&site, &files);
        assert!(files["check.txt"].contains("not taken"), "{}", files["check.txt"]);
        assert!(files["status.json"].contains("no_answer"), "{}", files["status.json"]);
    }
}

#[test]
fn what_others_wrote_has_no_secret_either_though_the_configuration_is_not_good() {
    let good = "[endpoints.a]\ntoken = \"SECRET-one\"\n[endpoints.b]\ntoken_file = \"keys/b\"\n";
    let Some(machine) = Packaged::new(good) else {
        println!("SKIPPED support bundle: what others wrote: nothing can be mounted here");
        return;
    };
    let path = |name: &str| machine.site.path(name);
    fs::write(path("etc/tidegate/keys/b"), "SECRET-\"two\"\n").unwrap();
    let journal = "a login with SECRET-one\n{\"why\":\"SECRET-\\\"two\\\"\"}\nno secret\n";
    fs::write(path("journal"), journal).unwrap();
    machine.says("# with SECRET-one\nExecStartPre=/bin/login SECRET-\"two\"\n");
    for (n, wrong) in
        ["", "periot = 1\n", "[uplink\n", "[endpoints.a]\ntoken = \"SECRET-one\"\n"].iter().enumerate()
    {
        fs::write(path("etc/tidegate/tidegate.toml"), format!("{good}{wrong}")).unwrap();
        let name = format!("{n}.tar.gz");
        let [program, arguments @ ..] = machine.wrapper();
        let mut command = Command::new(program);
        command.args(arguments).arg(binary()).arg("support-bundle").arg(path(&name));
        let files = unpacked(&machine.site, &name, command.args(["-c", Packaged::FILE]).output().unwrap());
        assert_secretless(&machine.site, &files);
        assert!(files["check.txt"].contains("not taken"), "{}", files["check.txt"]);
        assert_eq!(files["journal.txt"], "a login with ***\n{\"why\":\"***\"}\nno secret\n", "{wrong}");
        assert!(
            files["unit.txt"].contains("# with ***\nExecStartPre=/bin/login ***\n"),
            "{}",
            files["unit.txt"]
        );
    }
}
