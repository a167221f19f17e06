//! The journal: one line per event on standard error, the level from `TIDEGATE_LOG` (default `info`).
//!
//! ERROR: data lost or a person is needed. WARN: degraded, recovering. INFO: state changes only.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process.
pub fn start() {
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start, in tests, changes nothing.
    let _already = subscriber.try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let why = panic.payload().downcast_ref::<&str>().copied();
        let why = why
            .or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(place, why, "panic");
    }));
}
