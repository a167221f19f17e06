//! Profiles that are shipped, those of a site, and what is said of faulty ones.

use super::*;
use proptest::prelude::*;
use std::fs;

const GOOD: &str =
    "vendor = 'a'\nmodel = 'b'\nsource = 'c'\nregisters.u = { register = 'input:0', type = 'u16' }\n";

fn wrong(text: &str) -> Vec<String> {
    match read::profile("x", Origin::BuiltIn, text) {
        Ok(_) => Vec::new(),
        Err(NoProfile::Faulty { faults, .. }) => faults.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn every_file_that_is_shipped_is_built_in_and_good() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/profiles");
    let library = Library::new("/nowhere".into());
    let shipped = Library::new(dir.clone());
    assert_eq!(library.names(), shipped.names());
    assert_eq!(library.names().len(), dir.read_dir().unwrap().count());
    for name in library.names() {
        let profile = library.find(&name).unwrap();
        assert_eq!(profile.content, shipped.find(&name).unwrap().content);
        let Content::Registers(entries) = &profile.content else { continue };
        let mut places = BTreeSet::new();
        for (resource, entry) in entries {
            assert!(entry.source.is_some(), "{name}: {resource}");
            assert!(places.insert(entry.register.register.clone()), "{name}: {resource} is there twice");
        }
    }
}

#[test]
fn a_file_of_the_site_takes_the_place_of_a_built_in_one_or_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::new(dir.path().to_owned());
    assert_eq!(library.find("sdm120").unwrap().origin, Origin::BuiltIn);
    for name in ["sdm120", "boiler-3"] {
        fs::write(dir.path().join(format!("{name}.toml")), GOOD).unwrap();
    }
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    fs::write(dir.path().join("not a name.toml"), "").unwrap();
    let names = library.names();
    assert!(names.contains("boiler-3") && names.contains("sdm630"), "{names:?}");
    assert_eq!(names.len(), BUILT_IN.len() + 1);
    for name in ["sdm120", "boiler-3"] {
        let profile = library.find(name).unwrap();
        assert_eq!(
            (profile.origin, profile.vendor.as_str()),
            (Origin::File(dir.path().join(format!("{name}.toml"))), "a")
        );
    }
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("profiles");
    fs::create_dir(&inner).unwrap();
    fs::write(dir.path().join("secret.toml"), GOOD).unwrap();
    let library = Library::new(inner);
    for name in ["../secret", "", "/etc/passwd", "sdm120.toml", "a\0b", &"a".repeat(65)] {
        assert!(matches!(library.find(name), Err(NoProfile::Unknown { .. })), "{name:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sdm120.toml")).unwrap();
    fs::write(dir.path().join("sdm630.toml"), b"\xff").unwrap();
    let library = Library::new(dir.path().to_owned());
    for (name, said) in [("sdm120", "a directory, not a file"), ("sdm630", "not UTF-8")] {
        let Err(NoProfile::Unreadable { file, why }) = library.find(name) else { panic!("{name}") };
        assert_eq!(file, dir.path().join(format!("{name}.toml")));
        assert!(why.starts_with(said), "{why}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_key() {
    assert_eq!(wrong(GOOD), Vec::<String>::new());
    for (from, to, said) in [
        ("vendor = 'a'", "vendor = ", "line 1: "),
        ("vendor = 'a'\n", "", "missing field `vendor`"),
        ("vendor = 'a'", "vendor = ''", "vendor: is empty"),
        ("vendor = 'a'", "vendor = 1", "vendor: invalid type: integer `1`, expected a string"),
        ("vendor = 'a'", "vendor = 'a'\nvednor = 'a'", "vednor: unknown field `vednor`"),
        (
            "source = 'c'",
            "source = 'c'\nlimits.max_registers = 126",
            "limits.max_registers: out of range: expected 1 to 125",
        ),
        ("source = 'c'", "source = 'c'\nlimits.max_bits = 0", "limits.max_bits: out of range"),
        ("source = 'c'", "source = 'c'\ndefaults.parity = 'E'", "defaults.parity: the parity is one of"),
        ("source = 'c'", "source = 'c'\ndefaults.unit = 248", "defaults.unit: units are 1 to 247"),
        ("source = 'c'", "source = 'c'\nsunspec = true", "registers: the registers of a SunSpec device"),
        ("registers.u = { register = 'input:0', type = 'u16' }", "", "registers: there is nothing to read"),
        ("'input:0'", "'inputs:0'", "registers.u.register: there is no table of this name; write it as"),
        ("'input:0'", "'30001'", "registers.u.register: it is not said whether"),
        ("register = 'input:0', ", "", "registers.u: the register is missing"),
        ("'u16'", "'u17'", "registers.u.type: there is no such type; the type is one of"),
        ("type = 'u16'", "type = 'u16', uint = 'V'", "registers.u.uint: unknown field `uint`"),
        ("type = 'u16'", "type = 'u16', unit = 1", "registers.u.unit: expected a string"),
        ("type = 'u16'", "type = 'u16', scale = 0", "registers.u.scale: not usable as a number"),
    ] {
        let text = GOOD.replace(from, to);
        let said_of_it = wrong(&text);
        assert!(said_of_it.len() == 1 && said_of_it[0].starts_with(said), "{text}: {said_of_it:?}");
    }
}

#[test]
fn all_faults_of_a_profile_are_told() {
    let text = format!(
        "{}registers.v = {{ register = 'x', type = 'f32' }}\n",
        GOOD.replace("u16", "u17").replace("'a'", "''")
    );
    assert_eq!(wrong(&text).len(), 3, "{:?}", wrong(&text));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.toml"), text).unwrap();
    let said = Library::new(dir.path().to_owned()).find("x").unwrap_err().to_string();
    assert!(said.ends_with("x.toml: vendor: is empty (and 2 more)"), "{said}");
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text: String, at in 0_usize..4_000, to: char) {
        wrong(&text);
        // Close to a good one, where the parser goes deep.
        let mut changed: Vec<char> = include_str!("../../../../packaging/profiles/sdm120.toml").chars().collect();
        let at = at % changed.len();
        changed[at] = to;
        wrong(&changed.into_iter().collect::<String>());
    }
}
