//! The secrets of a configuration, found in its text however good that is, and other texts without them.
//!
//! What others wrote (a journal, the units of systemd) is searched for them: the second line of defence. Also where the
//! configuration cannot be used: with one mistake in it, its tokens and passwords are secrets as before.

use super::{
    files::{Base, read},
    redact::hidden,
};
use adapter_api::shown;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::Path,
};
use toml::de::{DeTable, DeValue};

/// In place of a secret.
const HIDDEN: &str = "***";
/// A shorter text is part of words: it protects nothing.
const SHORTEST: usize = 4;
/// A shorter one is found as a word of its own only: within others it is chance, and a number within a number.
const LONG: usize = 12;
/// Behind what was cut short, the beginning of a secret may be left.
const CUTS: [&str; 3] = [" (cut)", "...", "\u{2026}"];

/// What must not be shown, by its first bytes: there may be ten thousand tokens, and a text of megabytes.
#[derive(Default)]
pub struct Secrets(BTreeMap<[u8; SHORTEST], Spellings>);

/// Secrets that begin alike, in all their spellings.
#[derive(Default)]
struct Spellings {
    all: BTreeSet<String>,
    /// In bytes.
    lengths: BTreeSet<usize>,
}

impl Secrets {
    /// Those in a configuration's text and in the credential files it names.
    pub fn of(text: &str, file: &Path) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let base = Base(file.parent().unwrap_or(Path::new("")));
        let mut secrets = Self::default();
        let (doc, mistakes) = DeTable::parse_recoverable(text);
        secrets.of_table(&[], doc.get_ref(), base);
        if !mistakes.is_empty() {
            // Of what is no TOML, lines with a telling key.
            let mut endpoint = None;
            for line in text.lines() {
                if line.trim_start().starts_with('[') {
                    endpoint = endpoint_of(line);
                }
                secrets.of_line(line, endpoint, base);
            }
        }
        secrets
    }

    /// A text in which none of them stands: as it is, as JSON or a message has it, as an address has it, or cut short.
    pub fn mask(&self, text: &str) -> String {
        let (mut masked, mut from, mut at) = (String::with_capacity(text.len()), 0, 0);
        while let Some(start) = text.as_bytes().get(at..).and_then(<[u8]>::first_chunk) {
            let found = self.0.get(start).and_then(|spellings| {
                let (before, text) = text.split_at_checked(at)?;
                spellings.length(text, ends_a_word(before))
            });
            let Some(length) = found else {
                at = at.saturating_add(1);
                continue;
            };
            masked.push_str(text.get(from..at).unwrap_or_default());
            masked.push_str(HIDDEN);
            at = at.saturating_add(length);
            from = at;
        }
        masked + text.get(from..).unwrap_or_default()
    }

    fn of_table(&mut self, path: &[&str], table: &DeTable<'_>, base: Base<'_>) {
        for (key, value) in table {
            let path: Vec<&str> = path.iter().copied().chain([key.get_ref().as_ref()]).collect();
            self.of_value(&path, value.get_ref(), base);
        }
    }

    fn of_value(&mut self, path: &[&str], value: &DeValue<'_>, base: Base<'_>) {
        match value {
            DeValue::Table(table) => self.of_table(path, table, base),
            DeValue::Array(items) => items.iter().for_each(|item| self.of_value(path, item.get_ref(), base)),
            DeValue::String(text) => self.of_text(path, text, base),
            DeValue::Integer(number) if is_telling(path) => self.add(&number.to_string()),
            _ => {}
        }
    }

    fn of_text(&mut self, path: &[&str], text: &str, base: Base<'_>) {
        // Everybody sees a name.
        if matches!(path, ["endpoints", name, "token"] if *name == text) {
            return;
        }
        if path.last().is_some_and(|key| key.ends_with("_file")) && base.path(Path::new(text)).exists() {
            // Its name is none.
            if is_telling(path) {
                self.of_file(Path::new(text), base);
            }
            return;
        }
        if hidden(path, text) {
            self.add(text);
        }
        if let Some((_, rest)) = text.split_once("://")
            && let Some((login, _)) = rest.rsplit_once('@')
        {
            self.add(login.split_once(':').map_or(login, |(_, password)| password));
        }
    }

    fn of_file(&mut self, path: &Path, base: Base<'_>) {
        if let Ok(secret) = read(&base.path(path)) {
            self.add(&secret);
        }
    }

    /// A line as `token = "..."`, of which nobody knows how it was meant.
    fn of_line(&mut self, line: &str, endpoint: Option<&str>, base: Base<'_>) {
        let Some((key, value)) = line.split_once('=') else { return };
        let key = key.trim().trim_matches(['"', '\'']);
        if !is_telling(&[key]) {
            return;
        }
        let value = value.trim().trim_start_matches(['"', '\'', '[', '{', ' ']);
        // With what may be a comment, and without.
        let bare = value.split(['"', '\'', '#']).next().unwrap_or_default().trim_end();
        for value in [value.trim_end_matches(['"', '\'', ']', '}', ' ']), bare] {
            // Everybody sees a name.
            if endpoint != Some(value) {
                self.of_text(&[key], value, base);
            }
        }
    }

    /// In all its spellings.
    fn add(&mut self, secret: &str) {
        let json = serde_json::to_string(secret).unwrap_or_default();
        let debug = format!("{secret:?}");
        let inner = |quoted: &str| within(quoted).to_owned();
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let encode = |b: u8| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
        let twice = serde_json::to_string(within(&json)).unwrap_or_default();
        let spellings = [
            secret.to_owned(),
            inner(&json),
            inner(&twice),
            inner(&debug),
            shown(secret).to_string(),
            secret.bytes().map(encode).collect(),
        ];
        for spelling in spellings {
            if let Some(start) = spelling.as_bytes().first_chunk() {
                let known = self.0.entry(*start).or_default();
                known.lengths.insert(spelling.len());
                known.all.insert(spelling);
            }
        }
    }
}

impl Spellings {
    /// How much of this text is one of them: all of it, of two the longer, or its beginning where it was cut short.
    /// A short one counts only if it begins and ends as a word does.
    fn length(&self, text: &str, begins: bool) -> Option<usize> {
        let whole = self.lengths.iter().rev().find(|length| {
            let Some((head, rest)) = text.split_at_checked(**length) else { return false };
            let alone = || begins && !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
            self.all.contains(head) && (head.len() >= LONG || alone())
        });
        whole.copied().or_else(|| {
            let longest = self.lengths.last()?;
            let mut near = text.char_indices().map(|(at, _)| at).take_while(|at| at <= longest);
            let cut = near.find(|at| {
                let rest = text.get(*at..).unwrap_or_default();
                CUTS.iter().any(|cut| rest.starts_with(cut))
            });
            let head = text.get(..cut?).filter(|head| head.len() >= SHORTEST)?;
            if head.len() < LONG && !begins {
                return None;
            }
            let next = self.all.range::<str, _>((Bound::Included(head), Bound::Unbounded)).next()?;
            next.starts_with(head).then_some(head.len())
        })
    }
}

/// Whether what follows is no part of a word: what it is spelt as, as `\n`, `\u000a` and `%2F`, is none either.
fn ends_a_word(text: &str) -> bool {
    let escaped = |mark: &str, length: usize| {
        text.len().checked_sub(length).and_then(|at| text.get(at..)).is_some_and(|end| end.starts_with(mark))
    };
    let alphanumeric = text.ends_with(|c: char| c.is_ascii_alphanumeric());
    !alphanumeric || escaped("\\", 2) || escaped("\\u", 6) || escaped("%", 3)
}

/// NAME of `[endpoints.NAME]`, however that goes on.
fn endpoint_of(line: &str) -> Option<&str> {
    let name = line.trim_start().strip_prefix("[endpoints.")?;
    match name.chars().next()? {
        quote @ ('"' | '\'') => name.get(1..)?.split(quote).next(),
        _ => name.split(['.', ']', ' ']).next(),
    }
}

/// Without the quotes around it.
fn within(quoted: &str) -> &str {
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted)
}

/// Whether the key says that a secret stands there.
fn is_telling(path: &[&str]) -> bool {
    let key = path.last().map(|key| key.to_ascii_lowercase()).unwrap_or_default();
    ["tok", "pass", "pasw", "secret", "pwd"].iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn masked(config: &str, text: &str) -> String {
        Secrets::of(config, Path::new("/none/t.toml")).mask(text)
    }

    #[test]
    fn a_secret_is_found_in_a_text_however_good_the_configuration_is() {
        for config in [
            "[endpoints.m1]\ntoken = \"SECRET-a\"",
            "[endpoints.m1]\ntokn = \"SECRET-a\"\nperiot = 1",
            "[endpoints.m1]\ntoken = [\"SECRET-a\"]",
            "[nonsense.x]\ny = \"SECRET-a\"",
            "[uplink]\npassword_file = \"SECRET-a\"",
            "[uplink]\nurls = [\"mqtts://gateway:SECRET-a@host:8883\"]",
            "[uplink]\nurls = \"mqtts://SECRET-a@host\"",
            "[endpoints.m1\ntoken = \"SECRET-a\"",
            "[endpoints.m1]\ntoken = \"SECRET-a",
            "[endpoints.m1]\ntoken = SECRET-a",
            "[endpoints.m1]\ntoken = SECRET-a # of the platform",
            "\u{feff}[[[\npassword = 'SECRET-a'",
        ] {
            for (text, without) in [
                ("login with SECRET-a failed, SECRET-a/SECRET-a", "login with *** failed, ***/***"),
                ("SECRET-a", "***"),
                ("SECRET-b and \u{e9}SECRET-", "SECRET-b and \u{e9}SECRET-"),
                ("it was SECRE... and SECRET (cut)", "it was ***... and *** (cut)"),
                ("SEC... is part of words", "SEC... is part of words"),
            ] {
                assert_eq!(masked(config, text), without, "{config}");
            }
        }
    }

    #[test]
    fn a_secret_is_found_as_json_an_address_or_a_message_spells_it() {
        let secret = "S\"E\\C \u{7}\u{e9}\u{202e}/T";
        let config = format!("[endpoints.m1]\ntoken = {}", toml_string(secret));
        let json = serde_json::json!({ "why": secret }).to_string();
        let twice = serde_json::json!({ "line": json }).to_string();
        for text in [
            format!("a {secret} b"),
            format!("a {secret:?} b"),
            format!("a {} b", shown(secret)),
            json,
            twice,
            "topic S%22E%5CC%20%07%C3%A9%E2%80%AE%2FT".to_owned(),
        ] {
            let masked = masked(&config, &text);
            assert!(masked.contains("***") && !masked.contains('T'), "{text}: {masked}");
        }
    }

    /// As TOML has it, which knows `\u` of four digits.
    fn toml_string(text: &str) -> String {
        let escaped: String = text.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        format!("\"{escaped}\"")
    }

    #[test]
    fn what_is_no_secret_is_left() {
        let config = "[uplink]\nkind = \"kaa\"\nusername = \"gateway-1\"\n[store]\nmax_byts = \"1Gi\"\n\
                      [endpoints.boiler-7]\ntoken = \"boiler-7\"\n[endpoints.b]\ntoken = \"end\"";
        let text = "kaa gateway-1 boiler-7 endpoint 1Gi";
        assert_eq!(masked(config, text), text);
    }

    #[test]
    fn a_short_secret_is_no_part_of_words_and_numbers() {
        for (config, text, without) in [
            (
                "[endpoints.a]\ntoken = \"1001\"",
                "{\"t\":1710012345,\"u\":1001}",
                "{\"t\":1710012345,\"u\":***}",
            ),
            (
                "[endpoints.a]\ntoken = \"port\"",
                "report, port, ports, exports",
                "report, ***, ports, exports",
            ),
            ("[endpoints.a]\ntoken = \"s3cr\"", "x\\ns3cr %2Fs3cr \\u000as3cr", "x\\n*** %2F*** \\u000a***"),
            ("[endpoints.a]\ntoken = \"s3cret\"", "as3cre... s3cre...", "as3cre... ***..."),
            ("[endpoints.a]\ntoken = \"s3cret-and-so-on\"", "xs3cret-and-so-onx", "x***x"),
            // Whatever the key is called.
            ("[uplink]\nloginn = \"s3cr\"", "with s3cr", "with ***"),
        ] {
            assert_eq!(masked(config, text), without, "{config}");
        }
    }

    #[test]
    fn a_token_that_is_its_endpoint_s_name_is_none_with_a_mistake_elsewhere_either() {
        for (config, without) in [
            ("[endpoints.boiler-7]\ntoken = \"boiler-7\"\n[uplink\nkind = 1", "of boiler-7"),
            ("x = \n[endpoints.'boiler-7']\ntoken = 'boiler-7'", "of boiler-7"),
            ("x = \n[endpoints.boiler-7]\n[uplink]\npassword = \"boiler-7\"", "of ***"),
            ("x = \n[endpoints.boiler-8]\ntoken = \"boiler-7\"", "of ***"),
        ] {
            assert_eq!(masked(config, "of boiler-7"), without, "{config}");
        }
    }

    #[test]
    fn the_credentials_in_files_are_found_and_the_longest_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        fs::write(dir.path().join("password"), "SECRET-pass\r\n").unwrap();
        fs::write(dir.path().join("t"), "SECRET-pass-and-more\n").unwrap();
        for wrong in ["", "\nx = [", "\nperiot = 1"] {
            let config =
                format!("[uplink]\npassword_file = \"password\"\n[endpoints.a]\ntoken_file = \"t\"{wrong}");
            let secrets = Secrets::of(&config, &file);
            assert_eq!(secrets.mask("SECRET-pass-and-more SECRET-pass"), "*** ***", "{wrong}");
        }
    }

    #[test]
    fn many_secrets_take_no_longer_than_few() {
        let config: String =
            (0..10_000).map(|n| format!("[endpoints.e{n}]\ntoken = \"SECRET{n:06}\"\n")).collect();
        let text: String = (0..20_000).map(|n| format!("{n:05}SECRET{n:06} ")).collect();
        let masked = masked(&config, &text);
        assert_eq!(masked.matches("***").count(), 10_000);
    }
}
