//! What runs: each unit on its own OS thread with its own runtime, restarted with backoff for ever.
//!
//! One unit's crash, stall or flood reaches no other (I8). A panic is caught and counts as an end.

use crate::{
    backoff::{Backoff, Rng},
    fault::{Code, Fault},
};
use adapter_api::{CancellationToken, Instant, clock};
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::LocalSet,
};

#[cfg(panic = "abort")]
compile_error!("the supervisor catches panics: build with panic = \"unwind\"");

/// The first wait before a restart, and the longest.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Names looked up at once. A thread of them ends after a second without work.
const LOOKUPS: usize = 64;
/// A unit that ran this long starts its backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// How a unit is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitState {
    /// It runs.
    Running,
    /// It ended and is started again then.
    BackingOff {
        /// When.
        until: Instant,
        /// Why it ended.
        why: String,
    },
    /// It has stopped for good.
    Stopped,
}

/// A unit: something that runs until it is told to stop.
#[derive(Debug)]
pub struct Unit {
    /// Its name for people, `modbus.boiler-room` or `uplink`.
    pub name: String,
    state: UnitWatch,
    shutdown: CancellationToken,
    done: oneshot::Receiver<()>,
}

/// Looks at a unit without holding it.
#[derive(Debug, Clone)]
pub struct UnitWatch(Arc<Mutex<UnitState>>);

/// Starts a unit. `run` is called on the unit's thread, once per start.
pub fn start<R, F, E>(name: String, shutdown: CancellationToken, mut run: R) -> std::io::Result<Unit>
where
    R: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let state = UnitWatch(Arc::new(Mutex::new(UnitState::Running)));
    let (done_tx, done) = oneshot::channel::<()>();
    let unit = Unit { name: name.clone(), state: state.clone(), shutdown: shutdown.clone(), done };
    let body = move || {
        let _done = done_tx;
        let set = |new| *state.0.lock().unwrap_or_else(PoisonError::into_inner) = new;
        let mut backoff = Backoff::new(RESTART.0, RESTART.1);
        while !shutdown.is_cancelled() {
            set(UnitState::Running);
            let started = clock::now();
            let why = once(&mut run);
            if shutdown.is_cancelled() {
                break;
            }
            if clock::now().since(started) >= HEALTHY {
                backoff.reset();
            }
            let until = clock::now() + backoff.equal_jitter(&mut Rng::new());
            Fault::new(Code::UnitEnded, why.as_str(), name.as_str())
                .log_warning("ended; it is started again");
            set(UnitState::BackingOff { until, why });
            pause(until, &shutdown);
        }
        set(UnitState::Stopped);
    };
    spawn(unit.name.clone(), body)?;
    Ok(unit)
}

impl UnitWatch {
    /// How it is doing.
    pub fn state(&self) -> UnitState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Unit {
    /// To look at it.
    pub fn watch(&self) -> UnitWatch {
        self.state.clone()
    }

    /// Tells it to stop and waits until it has, at most until `deadline`. Returns whether it has.
    pub async fn stop(&mut self, deadline: Instant) -> bool {
        self.shutdown.cancel();
        clock::timeout(deadline.since(clock::now()), &mut self.done).await.is_ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "I12: the thread of a unit")]
fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name).spawn(body).map(drop)
}

/// Runs the unit once on a fresh runtime. Returns why it ended.
fn once<R, F, E>(run: &mut R) -> String
where
    R: FnMut() -> F,
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return format!("no runtime: {error}"),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(LocalSet::new().run_until(run()))));
    // Tasks that block cannot hold the thread of a unit that has ended.
    runtime.shutdown_background();
    match ended {
        Ok(Ok(())) => "it returned".into(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".into(),
    }
}

fn runtime() -> std::io::Result<Runtime> {
    // Blocking threads look names up, which may take a minute each where DNS is down.
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
}

fn pause(until: Instant, shutdown: &CancellationToken) {
    if let Ok(runtime) = runtime() {
        runtime.block_on(async {
            tokio::select! {
                () = clock::sleep_until(until) => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_unit_that_panics_or_fails_is_started_again_and_stops_when_told() {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = starts.clone();
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let mut unit = start("test".into(), shutdown, move || {
            let (start, tx, stop) = (counted.fetch_add(1, Ordering::SeqCst), tx.clone(), stop.clone());
            async move {
                tx.send(start).unwrap();
                match start {
                    0 => panic!("on purpose"),
                    1 => Err("failed"),
                    _ => {
                        stop.cancelled().await;
                        Ok(())
                    }
                }
            }
        })
        .unwrap();
        for start in 0..3 {
            assert_eq!(rx.recv().await, Some(start));
        }
        assert_eq!(unit.watch().state(), UnitState::Running);
        assert!(unit.stop(clock::now() + Duration::from_secs(30)).await);
        assert_eq!((unit.watch().state(), starts.load(Ordering::SeqCst)), (UnitState::Stopped, 3));
    }
}
