//! Looks at the system's clock, and tells the store, the adapters' clock and the journal. I/O only:
//! what follows from a look is decided in `trust.rs`.
//!
//! timedated is asked through `timedatectl`: one process every ten seconds or every minute, only until
//! the time is known, against a D-Bus library for one property. Under `test-hooks` a file named by
//! `TIDEGATE_TRUST_FILE` is the only sign.

use super::{Choice, Look, Output, Sign, State, Trust};
use crate::store::{Closed, Store};
use adapter_api::{Clock, Instant, clock, journal::Seldom};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// systemd-timesyncd touches it at its first synchronisation; gone with the next boot.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// Who asks timedated.
const TIMEDATECTL: &str = "timedatectl";
/// timedated is asked so often while samples wait, and afterwards.
const ASK: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// It answers within so long, its start included, or not at all.
const ANSWER: Duration = Duration::from_secs(5);
/// What the store could not write down is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// The time is written down so often: by it certificates are judged after a boot without time.
const WRITE: Duration = Duration::from_secs(3_600);
/// Where it is written down.
const KEPT: (&str, &str) = ("clock", "last_known_us");

/// What is known of the time, for `status`.
#[derive(Debug, Clone)]
pub struct TrustView(Arc<Mutex<State>>);

/// The one who looks.
pub struct Watch {
    trust: Trust,
    signs: Signs,
    store: Store,
    clock: Clock,
    view: TrustView,
    /// An offset that is not on disk yet, and when it is tried again.
    unkept: Option<(i64, Instant)>,
    /// When the time is written down next, once it is known.
    write_due: Instant,
    /// Steps of the system's clock.
    steps: Seldom,
}

/// Where signs are looked for.
struct Signs {
    choice: Choice,
    mark: PathBuf,
    timedatectl: PathBuf,
    /// When timedated is asked next; `None` if there is none.
    ask_due: Option<Instant>,
    asked: bool,
}

impl TrustView {
    /// What is known now.
    pub fn state(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Looks for the first time, at what answers at once, so that nothing is stamped without need.
    ///
    /// `hold` counts from the boot: however often the process starts, samples wait no longer.
    pub async fn begin(choice: Choice, hold: Duration, store: &Store) -> Result<Self, Closed> {
        let now = clock::now();
        let trust = Trust::new(now, now + hold.saturating_sub(clock::uptime()), store.boot_offset());
        let view = TrustView(Arc::new(Mutex::new(trust.state())));
        let clock = store.clock().clone();
        let signs = Signs::of(choice, now);
        let last_known = store.keep(KEPT.0, KEPT.1, 0_i64.to_le_bytes().to_vec()).await?;
        clock.not_before(last_known.try_into().map_or(0, i64::from_le_bytes));
        let store = store.clone();
        let mut watch =
            Self { trust, signs, store, clock, view, unkept: None, write_due: now, steps: Seldom::new() };
        let sign = watch.signs.at_once();
        watch.look(now, sign, false).await?;
        if let State::Waiting(until) = watch.trust.state()
            && until > now
        {
            let longest_s = until.since(now).as_secs();
            tracing::info!(longest_s, "the time is not known yet; samples wait for it");
        }
        Ok(watch)
    }

    /// For `status`.
    pub fn view(&self) -> TrustView {
        self.view.clone()
    }

    /// Looks for ever. Ends with the store.
    pub async fn run(mut self) {
        while let Ok(()) = self.turn().await {}
    }

    async fn turn(&mut self) -> Result<(), Closed> {
        let again = self.unkept.map(|(_, due)| due);
        clock::sleep_until(
            again.into_iter().chain([self.trust.poll_timeout()]).min().unwrap_or_else(clock::now),
        )
        .await;
        let now = clock::now();
        if let Some((offset_us, _)) = self.unkept.take_if(|(_, due)| *due <= now) {
            self.keep(offset_us).await?;
        }
        if self.trust.poll_timeout() > now {
            return Ok(());
        }
        let known = matches!(self.trust.state(), State::Known(_));
        let waiting = matches!(self.trust.state(), State::Waiting(_));
        let sign = if known { None } else { self.signs.all(now, waiting).await };
        self.look(clock::now(), sign, self.signs.asked).await
    }

    async fn look(&mut self, now: Instant, sign: Option<Sign>, complete: bool) -> Result<(), Closed> {
        let (wall_us, boot_us) = (self.clock.wall_us(), self.clock.boot_us());
        self.trust.handle_look(now, &Look { sign, complete, wall_us, boot_us });
        *self.view.0.lock().unwrap_or_else(PoisonError::into_inner) = self.trust.state();
        while let Some(output) = self.trust.poll_output() {
            self.act(output).await?;
        }
        if matches!(self.trust.state(), State::Known(_)) && self.write_due <= now {
            self.write_due = now + WRITE;
            self.store.put(KEPT.0, KEPT.1, wall_us.to_le_bytes().to_vec()).await?;
        }
        Ok(())
    }

    async fn act(&mut self, output: Output) -> Result<(), Closed> {
        match output {
            Output::Known { by, offset_us } => {
                // What is stamped from now on needs no offset.
                self.clock.trust();
                if by != Sign::Earlier {
                    self.keep(offset_us).await?;
                }
                tracing::info!(by = by.words(), "the time is known");
            }
            Output::HoldOver => {
                self.store.end_hold().await?;
                tracing::warn!(
                    "the time is still not known: samples go up without it, marked uncertain (clock); is an NTP \
                     server reachable (timedatectl)? Where the clock is right by other means: [clock] trust = \"always\""
                );
            }
            Output::Stepped { by_us } => {
                let by_s = by_us / 1_000_000;
                if let Some(left_out) = self.steps.tell(clock::now()) {
                    tracing::info!(by_s, left_out, "the system's clock was set; no timer follows it");
                }
            }
        }
        Ok(())
    }

    async fn keep(&mut self, offset_us: i64) -> Result<(), Closed> {
        let kept = self.store.know_time(offset_us).await?;
        self.unkept = (!kept).then(|| (offset_us, clock::now() + AGAIN));
        Ok(())
    }
}

impl Signs {
    fn of(choice: Choice, now: Instant) -> Self {
        let hook = mark_hook();
        // A test's file is the only sign.
        let ask_due = hook.is_none().then_some(now);
        let (mark, timedatectl) = (hook.unwrap_or_else(|| SYNCHRONIZED.into()), TIMEDATECTL.into());
        Self { choice, asked: ask_due.is_none(), mark, timedatectl, ask_due }
    }

    fn at_once(&self) -> Option<Sign> {
        match self.choice {
            Choice::Always => Some(Sign::Configured),
            Choice::Auto => self.mark.exists().then_some(Sign::Timesyncd),
        }
    }

    async fn all(&mut self, now: Instant, waiting: bool) -> Option<Sign> {
        let sign = self.at_once();
        if sign.is_some() || self.ask_due.is_none_or(|due| due > now) {
            return sign;
        }
        let [often, seldom] = ASK;
        let synchronized = ask_timedated(&self.timedatectl).await;
        self.asked = true;
        self.ask_due = synchronized.is_some().then(|| now + if waiting { often } else { seldom });
        synchronized.filter(|yes| *yes).map(|_| Sign::Timedated)
    }
}

/// What makes the time known at this moment, asked once and by nobody who waits for it.
pub async fn sign_now(choice: Choice) -> Option<Sign> {
    let mut signs = Signs::of(choice, clock::now());
    signs.all(clock::now(), false).await
}

/// What timedated says; `None` if nobody can be asked on this machine.
async fn ask_timedated(timedatectl: &Path) -> Option<bool> {
    let mut command = tokio::process::Command::new(timedatectl);
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match clock::timeout(ANSWER, command.output()).await {
        Ok(Ok(output)) => Some(output.stdout.trim_ascii() == b"yes"),
        Ok(Err(error)) => {
            tracing::debug!(%error, "timedatectl cannot be started");
            // For want of memory or of processes it could not this once: it is asked again.
            (error.kind() != ErrorKind::NotFound).then_some(false)
        }
        Err(_) => Some(false),
    }
}

#[cfg(feature = "test-hooks")]
fn mark_hook() -> Option<PathBuf> {
    std::env::var_os("TIDEGATE_TRUST_FILE").map(PathBuf::from)
}

#[cfg(not(feature = "test-hooks"))]
const fn mark_hook() -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn timedated_is_asked_again_unless_nobody_can_be_asked() {
        let nowhere = tempfile::tempdir().unwrap();
        // A directory is there, and cannot be started.
        for (timedatectl, again) in
            [(nowhere.path().join("timedatectl"), false), (nowhere.path().into(), true)]
        {
            let now = clock::now();
            let mut signs = Signs::of(Choice::Auto, now);
            signs.mark = nowhere.path().join("synchronized");
            (signs.timedatectl, signs.ask_due) = (timedatectl, Some(now));
            assert_eq!(signs.all(now, true).await, None);
            let due = again.then(|| now + ASK[0]);
            assert_eq!((signs.asked, signs.ask_due), (true, due), "{}", signs.timedatectl.display());
        }
    }
}
