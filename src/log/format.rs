//! How an event is written: for people and files with the time; for systemd's journal, which has the time itself,
//! with its priority in front (sd-daemon(3)), so that `journalctl -p err` shows what needs a person.

use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
};

/// The form of the stream that standard error is.
pub(super) enum Form {
    /// Whatever it is.
    Plain(Format<Full>),
    /// systemd's journal.
    Journal(Format<Full, ()>),
}

impl Form {
    /// As the environment says.
    pub(super) fn of_standard_error() -> Self {
        let named = std::env::var("JOURNAL_STREAM").ok();
        let ours = rustix::fs::fstat(std::io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
        match is_journal(named.as_deref(), ours) {
            true => Self::Journal(Format::default().without_time().with_level(false).with_target(false)),
            false => Self::Plain(Format::default().with_target(false)),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Plain(form) => form.format_event(context, writer, event),
            Self::Journal(form) => {
                write!(writer, "<{}>", priority(*event.metadata().level()))?;
                form.format_event(context, writer, event)
            }
        }
    }
}

/// systemd.exec(5): the stream is named by its device and inode, since a child may have got another one.
fn is_journal(named: Option<&str>, ours: Option<(u64, u64)>) -> bool {
    let named = named.and_then(|named| named.split_once(':'));
    let named = named.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    named.is_some() && named == ours
}

/// As in syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        // What happens is noticed; details are not.
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(form: Form, event: impl FnOnce()) -> String {
        let kept = Kept::default();
        let to = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .event_format(form)
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, event);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_journal_gets_the_priority_in_front_and_no_time() {
        let journal = || Form::Journal(Format::default().without_time().with_level(false).with_target(false));
        let said = written(journal(), || tracing::error!(code = "TG-205", "a person is needed"));
        assert_eq!(said, "<3>a person is needed code=\"TG-205\"\n");
        let span = || tracing::error_span!("unit", name = "modbus.a").entered();
        let said = written(journal(), || {
            let _in = span();
            tracing::warn!("degraded");
        });
        assert_eq!(said, "<4>unit{name=\"modbus.a\"}: degraded\n");
        assert!(written(journal(), || tracing::info!("started")).starts_with("<6>"));
        assert!(written(journal(), || tracing::trace!("read")).starts_with("<7>"));
        let said = written(Form::Plain(Format::default().with_target(false)), || tracing::warn!("degraded"));
        assert!(said.ends_with("  WARN degraded\n") && said.starts_with("20"), "{said}");
    }

    #[test]
    fn another_stream_than_the_named_one_is_no_journal() {
        for (named, ours, expected) in [
            (Some("8:12345"), Some((8, 12_345)), true),
            (Some("8:12345"), Some((8, 12_346)), false),
            (Some("8:12345"), None, false),
            (Some("8"), Some((8, 0)), false),
            (Some(""), Some((8, 0)), false),
            (None, Some((8, 12_345)), false),
        ] {
            assert_eq!(is_journal(named, ours), expected, "{named:?} {ours:?}");
        }
    }
}
