//! What faults are to say: `tests/data/faults.txt`, a paragraph for each that can be provoked; and what
//! tools print: `tests/data/modbus-tools.txt`; and what commands answer to scripts: `tests/data/cli-json.txt`.
//!
//! With `TIDEGATE_BLESS=1` a paragraph that differs is written anew, to be read before it is committed.

use crate::site::repository;
use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

const HEADING: &str = "== ";

/// A file of agreements, and what it says first.
struct Agreement(&'static str, &'static str);

const FAULTS: Agreement = Agreement(
    "tests/data/faults.txt",
    "What the gateway says about each fault that the tests provoke (tests/it/agreed.rs).\n",
);
const TOOLS: Agreement =
    Agreement("tests/data/modbus-tools.txt", "What the tools for Modbus print (tests/it/tools.rs).\n");

const JSON: Agreement = Agreement(
    "tests/data/cli-json.txt",
    "What commands answer with --json, with what differs from run to run replaced (tests/it/cli_json.rs).\n",
);

impl Agreement {
    fn file(&self) -> PathBuf {
        repository().join(self.0)
    }
}

/// The faults by what provokes them.
pub(crate) fn paragraphs() -> BTreeMap<String, String> {
    paragraphs_of(&FAULTS)
}

fn paragraphs_of(agreement: &Agreement) -> BTreeMap<String, String> {
    let text = fs::read_to_string(agreement.file()).unwrap_or_default();
    let between = format!("\n{HEADING}");
    let parts = text.split(between.as_str()).skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, body)| (name.to_owned(), body.trim_end().to_owned() + "\n")).collect()
}

/// Compares what is said of a fault with what was agreed on.
pub(crate) fn assert_agreed(provoked_by: &str, said: &str) {
    agree(&FAULTS, provoked_by, said);
}

/// Compares what a tool prints with what was agreed on.
pub(crate) fn assert_output_agreed(tool: &str, said: &str) {
    agree(&TOOLS, tool, &format!("{}\n", said.trim_end()));
}

/// Compares what a command answers to scripts with what was agreed on.
pub(crate) fn assert_json_agreed(command: &str, said: &str) {
    agree(&JSON, command, &format!("{}\n", said.trim_end()));
}

fn agree(agreement: &Agreement, provoked_by: &str, said: &str) {
    let said = masked(said);
    for no in ["os error", "Err(", "Error", "::", "SECRET"] {
        assert!(!said.contains(no), "{provoked_by}: no words for people: {said}");
    }
    let mut all = paragraphs_of(agreement);
    if all.get(provoked_by) == Some(&said) {
        return;
    }
    if env::var_os("TIDEGATE_BLESS").is_none() {
        panic!("{provoked_by}: was agreed to say\n{:?}\nand says\n{said}", all.get(provoked_by));
    }
    all.insert(provoked_by.to_owned(), said);
    let mut text = agreement.1.to_owned();
    for (name, body) in all {
        write!(text, "\n{HEADING}{name}\n{body}").unwrap();
    }
    fs::write(agreement.file(), text).unwrap();
}

/// Ports, dates and directories of this run, replaced.
fn masked(said: &str) -> String {
    let mut words = Vec::new();
    for word in said.split(' ') {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = bare.bytes().filter(u8::is_ascii_digit).count();
        let dated = bare.len() == 10 && digits == 8 && bare.bytes().filter(|b| *b == b'-').count() == 2;
        let timed = bare.len() == 5 && digits == 4 && bare.contains(':');
        let after_port = words.last() == Some(&"port".to_owned()) && digits == bare.len() && digits == 5;
        let of_address = bare.strip_prefix("127.0.0.1:").is_some_and(|port| port.len() == 5);
        words.push(match (dated, timed, after_port) {
            (true, _, _) => word.replace(bare, "DATE"),
            (_, true, _) => word.replace(bare, "TIME"),
            (_, _, true) => word.replace(bare, "PORT"),
            _ if of_address => word.replace(bare, "127.0.0.1:PORT"),
            _ => word.to_owned(),
        });
    }
    let text = words.join(" ");
    let Some(at) =
        text.find("/tmp/tidegate-it-").or_else(|| text.find(&env::temp_dir().display().to_string()))
    else {
        return text;
    };
    let dir: String = text[at..].chars().take_while(|c| !c.is_whitespace() && !"\":".contains(*c)).collect();
    let root = dir.split("/tidegate-it-").next().unwrap_or_default().to_owned();
    let name = dir[root.len()..].trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
    text.replace(&format!("{root}/{name}"), "DIR")
}
