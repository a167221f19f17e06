//! What runs: each unit on its own OS thread with its own runtime, restarted with backoff for ever.
//!
//! One unit's crash, stall or flood reaches no other (I8). A panic is caught and counts as an end. A thread
//! cannot be killed: a unit that has stalled is left behind at its stop, with its intake closed.
//!
//! Not here: who is told of it (`status`, and from there the journal and systemd).

mod pulse;
mod watch;

pub use watch::{UnitState, UnitWatch};

use crate::backoff::{Backoff, Rng};
use adapter_api::{CancellationToken, Instant, Intake, clock};
use pulse::{EVERY, Finger, Pulse, Seen};
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    task::{JoinSet, LocalSet},
};

#[cfg(panic = "abort")]
compile_error!("the supervisor catches panics: build with panic = \"unwind\"");

/// The first wait before a restart, and the longest.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Names looked up at once. A thread of them ends after a second without work.
const LOOKUPS: usize = 64;
/// A unit that ran this long starts its backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// A unit: something that runs until it is told to stop.
#[derive(Debug)]
pub struct Unit {
    /// Its name for people, `modbus.boiler-room` or `uplink`.
    pub name: String,
    watch: UnitWatch,
    shutdown: CancellationToken,
    done: oneshot::Receiver<()>,
    /// Closed if the unit has to be left behind.
    intake: Option<Intake>,
    /// Whoever feels its pulse; it ends with this.
    _pulse: JoinSet<()>,
}

/// How a run has ended.
struct Ended {
    why: String,
    panicked: bool,
}

/// Starts a unit. `run` is called on the unit's thread, once per start. Its pulse is felt where this is
/// called, if that is in a runtime.
pub fn start<R, F, E>(name: String, shutdown: CancellationToken, mut run: R) -> std::io::Result<Unit>
where
    R: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let (watch, pulse) = (UnitWatch::new(), Pulse::default());
    let (done_tx, done) = oneshot::channel::<()>();
    let mut felt = JoinSet::new();
    if let Ok(here) = Handle::try_current() {
        felt.spawn_on(feel(pulse.clone(), watch.clone()), &here);
    }
    let (stop, told, span) = (shutdown.clone(), watch.clone(), name.clone());
    let body = move || {
        let _done = done_tx;
        // Whatever is logged on this thread is this unit's.
        let _span = tracing::error_span!("unit", name = span).entered();
        let mut backoff = Backoff::new(RESTART.0, RESTART.1);
        while !stop.is_cancelled() {
            let started = clock::now();
            told.started();
            let Ended { why, panicked } = once(&mut run, &pulse);
            if stop.is_cancelled() {
                break;
            }
            if clock::now().since(started) >= HEALTHY {
                backoff.reset();
            }
            let now = clock::now();
            let until = now + backoff.equal_jitter(&mut Rng::new());
            told.ended(now, until, why, panicked);
            pause(until, &stop);
        }
        told.stopped();
    };
    spawn(name.clone(), body)?;
    Ok(Unit { name, watch, shutdown, done, intake: None, _pulse: felt })
}

impl Unit {
    /// To look at it.
    pub fn watch(&self) -> UnitWatch {
        self.watch.clone()
    }

    /// What it hands in by: closed if it does not stop in time.
    #[must_use]
    pub fn handing_in_by(mut self, intake: Intake) -> Self {
        self.intake = Some(intake);
        self
    }

    /// Tells it to stop and waits until it has, at most until `deadline`. Returns whether it has: if not,
    /// it is left behind, and nothing more is taken from it.
    pub async fn stop(&mut self, deadline: Instant) -> bool {
        self.watch.stopping();
        self.shutdown.cancel();
        let stopped = clock::timeout(deadline.since(clock::now()), &mut self.done).await.is_ok();
        if !stopped {
            if let Some(intake) = &self.intake {
                intake.close();
            }
            self.watch.left_behind(&self.name);
        }
        stopped
    }
}

/// Feels a unit's pulse, for ever. All units are looked at in the same moment: the gateway wakes once for them.
async fn feel(pulse: Pulse, watch: UnitWatch) {
    let mut finger = Finger::default();
    loop {
        let since_start = clock::now().since(Instant::from_start(Duration::ZERO));
        let looks = u32::try_from(since_start.as_millis() / EVERY.as_millis()).unwrap_or(u32::MAX - 1);
        let next = Instant::from_start(EVERY.saturating_mul(looks + 1));
        clock::sleep_until(next).await;
        watch.stalled(pulse.look(next, watch.run(), &mut finger) == Seen::Stalled);
    }
}

#[expect(clippy::disallowed_methods, reason = "I12: the thread of a unit")]
fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name).spawn(body).map(drop)
}

/// Runs the unit once on a fresh runtime. Returns why it ended.
fn once<R, F, E>(run: &mut R, pulse: &Pulse) -> Ended
where
    R: FnMut() -> F,
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let runtime = match runtime(Some(pulse)) {
        Ok(runtime) => runtime,
        Err(error) => return Ended { why: format!("no runtime: {error}"), panicked: false },
    };
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let local = LocalSet::new();
        let answering = pulse.clone();
        local.spawn_local(async move { answering.answer().await });
        runtime.block_on(local.run_until(run()))
    }));
    // Tasks that block cannot hold the thread of a unit that has ended.
    runtime.shutdown_background();
    match ended {
        Ok(Ok(())) => Ended { why: "it returned".into(), panicked: false },
        Ok(Err(error)) => Ended { why: error.to_string(), panicked: false },
        Err(_) => Ended { why: "it panicked".into(), panicked: true },
    }
}

fn runtime(pulse: Option<&Pulse>) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    if let Some(pulse) = pulse {
        pulse.kept_by(&mut builder);
    }
    // Blocking threads look names up, which may take a minute each where DNS is down.
    builder.enable_all().max_blocking_threads(LOOKUPS).thread_keep_alive(Duration::from_secs(1)).build()
}

fn pause(until: Instant, shutdown: &CancellationToken) {
    if let Ok(runtime) = runtime(None) {
        runtime.block_on(async {
            tokio::select! {
                () = clock::sleep_until(until) => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests;
