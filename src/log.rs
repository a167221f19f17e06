//! The journal: one line per event on standard error, the level from `TIDEGATE_LOG` (default `info`).
//!
//! ERROR: data lost or a person is needed. WARN: degraded, recovering. INFO: state changes only.

mod format;
mod panics;

use adapter_api::shown;
use std::{
    io::{self, Write},
    panic::PanicHookInfo,
};
use tracing_subscriber::EnvFilter;

/// Longer lines are cut: no fault needs more.
const LINE_BYTES: usize = 16 << 10;

/// Starts logging for this process.
pub fn start() {
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines(io::stderr()))
        .event_format(format::Form::of_standard_error());
    // A second start, in tests, changes nothing.
    let _already = subscriber.try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        if let Some(left_out) = panics::tell(&place) {
            tracing::error!(place, why = why(panic), left_out, "panic");
        }
    }));
}

/// What commands say of a panic that do not log.
pub fn panics_are_plain() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let _unwritable = writeln!(Lines(io::stderr()), "tidegate: panic at {place}: {}", why(panic));
    }));
}

/// Why it panicked. Words that were put together may quote anything, as those of the standard library do
/// of a text that is cut in the wrong place; only fixed ones are passed on (I11).
fn why<'p>(panic: &'p PanicHookInfo<'_>) -> &'p str {
    panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("the reason may quote data; see the place")
}

/// Takes one event at a time, and makes it one line in which nothing steers a terminal: an event's fields
/// come from devices and platforms.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let cut = event.get(..LINE_BYTES).unwrap_or(event);
        let text = String::from_utf8_lossy(cut);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let more = if cut.len() < event.len() { " (cut)" } else { "" };
        self.0.write_all(format!("{}{more}\n", shown(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_steers_nothing() {
        for (event, line) in [
            ("a b\n", "a b\n"),
            ("a\nlevel=ERROR b\n", "a\\u{a}level=ERROR b\n"),
            ("\u{1b}]0;x\u{7}\n", "\\u{1b}]0;x\\u{7}\n"),
            ("\u{202e}\u{9b}2J", "\\u{202e}\\u{9b}2J\n"),
        ] {
            let mut out = Lines(Vec::new());
            out.write_all(event.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out.0).unwrap(), line);
        }
        let mut out = Lines(Vec::new());
        out.write_all(&[b'x'; 100_000]).unwrap();
        assert!(out.0.len() < LINE_BYTES + 10 && out.0.ends_with(b" (cut)\n"));
    }
}
