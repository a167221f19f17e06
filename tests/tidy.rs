//! The house rules a compiler does not check: headers, names, invariants, who may touch what.
#![expect(clippy::unwrap_used, reason = "tests: a failed step is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with this ending, and its text.
fn files(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == ending) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    ["src", "adapters", "tests"].iter().flat_map(|folder| files(folder, "rs")).collect()
}

/// The code of a file without what follows `#[cfg(test)]` at its left edge.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap()
}

#[test]
fn every_file_opens_with_what_it_is_responsible_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}

#[test]
fn no_file_is_named_after_nothing() {
    for (path, _) in sources() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            !["utils.rs", "common.rs", "types.rs", "helpers.rs", "misc.rs"].contains(&name),
            "{}",
            path.display()
        );
    }
}

/// `I` and a number, standing alone.
fn invariants(text: &str) -> BTreeSet<u32> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.strip_prefix('I')?.parse().ok()).filter(|n| (1..=12).contains(n)).collect()
}

#[test]
fn every_invariant_is_listed_once_and_cited_where_it_is_kept() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let listed: BTreeSet<u32> = map
        .lines()
        .filter_map(|line| line.strip_prefix("//! - **I")?.split("**").next()?.parse().ok())
        .collect();
    assert_eq!(invariants(&map), (1..=12).collect(), "all twelve are named in the map");
    let cited: BTreeSet<u32> = sources()
        .iter()
        .filter(|(path, _)| !path.ends_with("src/lib.rs"))
        .flat_map(|(_, text)| invariants(text))
        .collect();
    assert!(listed.is_subset(&cited), "listed and cited nowhere: {:?}", listed.difference(&cited));
}

#[test]
fn the_code_map_names_every_room() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !["lib", "mutant"].contains(&name.as_str()) {
            assert!(map.contains(&format!("[`{name}`]")) || map.contains(&format!("`{name}`")), "{name}");
        }
    }
}

/// Only these files may say these words (I11, I12).
#[test]
fn each_thing_is_touched_where_it_belongs() {
    let rules: [(&str, &[&str]); 8] = [
        ("rusqlite::", &["src/store/"]),
        ("SystemTime", &["adapters/api/src/clock.rs"]),
        // Wall time goes into stamps, and into no timer.
        (
            "wall_us()",
            &["adapters/api/src/clock.rs", "src/trust/", "src/store/thread", "src/control/view.rs"],
        ),
        ("judging_us()", &["adapters/api/src/clock.rs", "src/uplink/tls.rs", "src/config/files.rs"]),
        ("thread::Builder", &["src/store/mod.rs", "src/supervisor.rs", "adapters/api/src/testkit.rs"]),
        (".expose()", &["src/dialect/", "src/uplink/", "src/config/secret.rs"]),
        ("unsafe ", &["adapters/modbus/src/rs485.rs", "src/memory.rs"]),
        ("async_trait", &[]),
    ];
    for (path, text) in sources() {
        let shown = path.display().to_string();
        if shown.starts_with("tests/") || shown.ends_with("tests.rs") || shown.contains("/tests/") {
            continue;
        }
        for line in code(&text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (word, places) in rules {
                let allowed = places.iter().any(|place| shown.starts_with(place));
                assert!(allowed || !line.contains(word), "{shown} says {word:?}: {line}");
            }
        }
    }
}

#[test]
fn every_module_of_integration_tests_is_run_by_the_one_command() {
    let command = fs::read_to_string(root().join("tests/run")).unwrap();
    for (path, text) in files("tests/it", "rs") {
        let module = path.file_stem().unwrap().to_str().unwrap();
        let run = command.contains(&format!(" {module}::"));
        assert!(run || !text.contains("#[test]"), "tests/run does not run {module}");
    }
}

#[test]
fn what_only_tests_need_is_in_no_package() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let default = manifest.lines().find(|line| line.starts_with("default = ")).unwrap();
    assert!(!default.contains("test-hooks"), "{default}");
    let packaging = root().join("packaging");
    if packaging.is_dir() {
        for ending in ["sh", "toml"] {
            for (path, text) in files("packaging", ending) {
                assert!(!text.contains("test-hooks"), "{}", path.display());
            }
        }
    }
}

#[test]
fn every_exception_from_a_lint_has_a_reason() {
    for (path, text) in sources() {
        let bare = text.lines().find(|line| line.trim_start().starts_with("#[allow"));
        assert_eq!(bare, None, "{}: use #[expect(…, reason = …)]", path.display());
    }
}

#[test]
fn the_configurations_in_the_readme_are_good() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("password"), "secret").unwrap();
    let blocks: Vec<&str> =
        readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let parsed = tidegate::config::Config::parse(block, "README.md", dir.path());
        assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
    }
}
