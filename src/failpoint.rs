//! Places where a test lets the process die as a power cut would (`test-hooks` only).
//!
//! `TIDEGATE_FAIL=NAME@COUNT` kills this process with SIGKILL when it passes NAME for the COUNT-th time.
//! `TIDEGATE_PANIC=login` lets the uplink panic at its first login, with the password in the panic's words.
//! `TIDEGATE_HANG=FILE` lets the uplink's thread hang at each login while there is this file.
//! `TIDEGATE_LINGER=MS` makes each step of a salvage take so long.

/// A place to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The group is written, COMMIT has not begun.
    BeforeCommit,
    /// COMMIT returned, nobody was answered.
    AfterCommit,
    /// Frames are on their way, nothing is confirmed.
    InFlight,
    /// The platform confirmed, the delete is not committed.
    AfterConfirmation,
}

/// Dies here if the environment says so.
#[cfg(feature = "test-hooks")]
pub fn pass(point: Point) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static FATAL: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let fatal = FATAL.get_or_init(|| {
        let wanted = std::env::var("TIDEGATE_FAIL").ok()?;
        let (name, count) = wanted.split_once('@')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    let name = match point {
        Point::BeforeCommit => "before_commit",
        Point::AfterCommit => "after_commit",
        Point::InFlight => "in_flight",
        Point::AfterConfirmation => "after_confirmation",
    };
    if let Some((wanted, count)) = fatal
        && wanted == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        // Nothing to do if even that fails: the test then waits in vain and says so.
        let _killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing in a build for use.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub const fn pass(_point: Point) {}

/// Panics the first time, with a secret in the panic's words, if the environment says so.
#[cfg(feature = "test-hooks")]
#[expect(clippy::panic, reason = "what a test asks for")]
pub fn panic_with(secret: &str) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static PANICKED: AtomicBool = AtomicBool::new(false);
    let wanted = std::env::var("TIDEGATE_PANIC").is_ok_and(|place| place == "login");
    if wanted && !PANICKED.swap(true, Ordering::Relaxed) {
        panic!("on purpose, with {secret} and {secret:?}");
    }
}

/// Does nothing in a build for use.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub const fn panic_with(_secret: &str) {}

/// Blocks the thread while the environment names a file that is there.
#[cfg(feature = "test-hooks")]
pub fn hang() {
    let Some(file) = std::env::var_os("TIDEGATE_HANG") else { return };
    while std::path::Path::new(&file).exists() {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

/// Does nothing in a build for use.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub const fn hang() {}

/// Takes as long as the environment says.
#[cfg(feature = "test-hooks")]
pub fn linger() {
    use std::{sync::OnceLock, time::Duration};
    static MS: OnceLock<Option<u64>> = OnceLock::new();
    if let Some(ms) = MS.get_or_init(|| std::env::var("TIDEGATE_LINGER").ok()?.parse().ok()) {
        std::thread::park_timeout(Duration::from_millis(*ms));
    }
}

/// Does nothing in a build for use.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub const fn linger() {}
