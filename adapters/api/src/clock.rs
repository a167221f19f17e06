//! The only place that reads a clock and the only one that waits (I12).
//!
//! Monotonic time is an [`Instant`]: time since the process started, on tokio's clock, so that
//! paused tests work. Under `test-hooks` the environment variable `TIDEGATE_TIME_SCALE=n` makes it
//! run n times faster; all waits follow. Wall time goes into stamps only: a jump of the wall clock
//! changes no timer.
//!
//! A [`Clock`] stamps with wall time once somebody said that it can be trusted, until then with the
//! time since boot. Who says so, and when, is not decided here. Under `test-hooks` the file
//! `TIDEGATE_BOOT_FILE` holds `ID START_US` in place of the machine's boot: a boot that began when the
//! real one was START_US old.
#![expect(clippy::disallowed_methods, reason = "I12: this is the file the others are sent to")]

use crate::{Source, Stamp};
use std::{
    future::Future,
    ops::{Add, Sub},
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A point in monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

/// Stamps samples. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Trusted>);

#[derive(Debug)]
struct Trusted {
    /// The present boot's number in the store.
    boot: i64,
    /// Wall time is known.
    wall: AtomicBool,
    /// It is not earlier than this, in µs since 1970.
    least: AtomicI64,
}

/// A deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// Wakes a thread that waits with [`Bell::wait`]. A ring before the wait is not lost.
#[derive(Debug, Default)]
pub struct Bell(Mutex<bool>, Condvar);

impl Instant {
    /// An instant for machines that are driven by a test.
    pub const fn from_start(since: Duration) -> Self {
        Self(since)
    }

    /// How long ago `earlier` was; zero if it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

impl Clock {
    /// A clock that trusts the system's wall time from the beginning.
    pub fn trusting() -> Self {
        Self(Arc::new(Trusted { boot: 0, wall: true.into(), least: 0.into() }))
    }

    /// A clock that stamps with the time since boot until [`Clock::trust`]. `boot` is the boot's number in the store.
    pub fn untrusted(boot: i64) -> Self {
        Self(Arc::new(Trusted { boot, wall: false.into(), least: 0.into() }))
    }

    /// From now on the system's wall time is trusted.
    pub fn trust(&self) {
        self.0.wall.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_trusted(&self) -> bool {
        self.0.wall.load(Ordering::Acquire)
    }

    /// The stamp of a sample taken now.
    pub fn stamp(&self) -> Stamp {
        if self.is_trusted() {
            Stamp::Wall { us: self.wall_us(), source: Source::Gateway }
        } else {
            Stamp::Mono { boot: self.0.boot, us: self.boot_us() }
        }
    }

    /// It is known from earlier that it cannot be before `us` after 1970.
    pub fn not_before(&self, us: i64) {
        self.0.least.store(us, Ordering::Relaxed);
    }

    /// The time by which certificates are judged: the wall clock's, but until that is trusted not before
    /// what was known earlier.
    pub fn judging_us(&self) -> i64 {
        let wall_us = self.wall_us();
        if self.is_trusted() { wall_us } else { wall_us.max(self.0.least.load(Ordering::Relaxed)) }
    }

    /// The system's wall time in µs since 1970, trusted or not.
    pub fn wall_us(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        }
    }

    /// µs since boot, time in suspend included.
    pub fn boot_us(&self) -> i64 {
        i64::try_from(boottime().as_micros()).unwrap_or(i64::MAX)
    }
}

/// What tells this boot from all others: the kernel's own id, or a random one where there is none.
pub fn boot_id() -> String {
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let id = boot_hook().0.clone().or_else(kernel).map(|id| id.trim().to_owned());
    id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)))
}

/// Time since boot, as fast as [`Instant`]s are.
pub fn uptime() -> Duration {
    boottime().saturating_mul(scale())
}

fn boottime() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(at.tv_sec).unwrap_or_default();
    let since = Duration::new(seconds, u32::try_from(at.tv_nsec).unwrap_or_default());
    since.saturating_sub(Duration::from_micros(boot_hook().1))
}

/// The present instant.
pub fn now() -> Instant {
    Instant(tokio::time::Instant::now().saturating_duration_since(origin()).saturating_mul(scale()))
}

/// Waits until `at`. Cancel-safe.
pub async fn sleep_until(at: Instant) {
    match real(at) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits for `length`. Cancel-safe.
pub async fn sleep(length: Duration) {
    sleep_until(now() + length).await;
}

/// Waits for `future`, at most `length`. One that always has more to do (of a peer that floods) does not
/// keep the deadline from passing.
pub async fn timeout<F: Future>(length: Duration, future: F) -> Result<F::Output, Elapsed> {
    match real(now() + length) {
        // Not a `select!` with a sleep: that sleeps on where the future has used up the task's budget.
        Some(at) => tokio::time::timeout_at(at, future).await.map_err(|_| Elapsed),
        None => Ok(future.await),
    }
}

impl Bell {
    /// Wakes the waiting thread, now or at its next wait.
    pub fn ring(&self) {
        let rung = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), true);
        // Whoever waits was woken by the first ring, and each more would be a system call.
        if !rung {
            self.1.notify_one();
        }
    }

    /// Blocks this thread until the bell rings or `until` has passed.
    pub fn wait(&self, until: Option<Instant>) {
        let mut rung = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            let left = match until {
                None => Duration::MAX,
                Some(until) => match until.since(now()) {
                    Duration::ZERO => break,
                    left => left.div_ceil_by(scale()),
                },
            };
            // Condvar's time-out overflows far from 2^64 s; a day is as good as for ever, the loop turns again.
            let left = left.min(Duration::from_secs(86_400));
            rung = self.1.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *rung = false;
    }
}

/// On tokio's clock; `None` behind its end. Rounded up: waking a tick early would make a caller turn twice.
fn real(at: Instant) -> Option<tokio::time::Instant> {
    origin().checked_add(at.0.div_ceil_by(scale()))
}

trait DivCeil {
    fn div_ceil_by(self, by: u32) -> Self;
}

impl DivCeil for Duration {
    fn div_ceil_by(self, by: u32) -> Self {
        match by {
            0 | 1 => self,
            by => (self / by).saturating_add(Duration::from_nanos(1)),
        }
    }
}

fn origin() -> tokio::time::Instant {
    static ORIGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(tokio::time::Instant::now)
}

#[cfg(feature = "test-hooks")]
fn scale() -> u32 {
    static SCALE: OnceLock<u32> = OnceLock::new();
    *SCALE.get_or_init(|| {
        let asked = std::env::var("TIDEGATE_TIME_SCALE").ok().and_then(|n| n.parse().ok());
        asked.filter(|n| *n > 0).unwrap_or(1)
    })
}

#[cfg(not(feature = "test-hooks"))]
const fn scale() -> u32 {
    1
}

/// The boot a test wants this to be, and how old the real one was when it began.
#[cfg(feature = "test-hooks")]
fn boot_hook() -> &'static (Option<String>, u64) {
    static HOOK: OnceLock<(Option<String>, u64)> = OnceLock::new();
    HOOK.get_or_init(|| {
        let text = std::env::var_os("TIDEGATE_BOOT_FILE").and_then(|file| std::fs::read_to_string(file).ok());
        let text = text.unwrap_or_default();
        let mut words = text.split_ascii_whitespace().map(str::to_owned);
        (words.next(), words.next().and_then(|us| us.parse().ok()).unwrap_or_default())
    })
}

#[cfg(not(feature = "test-hooks"))]
const fn boot_hook() -> &'static (Option<String>, u64) {
    &(None, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_follows_the_paused_clock() {
        let start = now();
        sleep(Duration::from_secs(3_600)).await;
        let slept = now().since(start);
        assert!(slept >= Duration::from_secs(3_600) && slept < Duration::from_secs(3_601), "{slept:?}");
        assert_eq!(timeout(Duration::from_secs(5), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(Duration::from_secs(5), async { 7 }).await, Ok(7));
    }

    /// As a socket whose peer sends without end: each read succeeds until the task's budget is used up.
    #[tokio::test]
    async fn whoever_is_never_idle_does_not_outlive_its_deadline() {
        let end = now() + Duration::from_secs(20);
        let busy = async {
            while now() < end {
                tokio::task::coop::consume_budget().await;
            }
        };
        assert_eq!(timeout(Duration::from_millis(50), busy).await, Err(Elapsed));
    }

    #[test]
    fn stamps_are_of_the_boot_until_the_time_is_trusted() {
        let clock = Clock::untrusted(7);
        let adapters = clock.clone();
        let (first, second) = (adapters.stamp(), adapters.stamp());
        let (Stamp::Mono { boot: 7, us: first }, Stamp::Mono { boot: 7, us: second }) = (first, second)
        else {
            panic!("{first:?} {second:?}")
        };
        assert!(0 < first && first <= second);
        clock.not_before(i64::MAX);
        assert_eq!(adapters.judging_us(), i64::MAX);
        clock.trust();
        assert!(adapters.judging_us() < i64::MAX, "the wall clock knows better");
        assert!(matches!(adapters.stamp(), Stamp::Wall { source: Source::Gateway, .. }));
    }

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Arc::new(Bell::default());
        bell.ring();
        bell.wait(None);
        bell.wait(Some(now()));
    }
}
