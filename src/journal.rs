//! The journal's account of what stands wrong: told once, when it changes, and hourly; and its end, once.
//!
//! It follows `status`: whatever is a fault there is a fault here, of adapters, uplink and store alike, one
//! line for all devices or endpoints that have the same. Whoever notices something reports it, and logs
//! nothing. Not here: what happens once (a start, a panic, readings dropped), and what the faults mean.

mod standing;
mod telling;

use adapter_api::{Instant, clock, journal};
use serde_json::Value;
use standing::{Standing, standings, unheard, units, well};
use std::time::Duration;
use telling::{Line, Telling};

/// While something stands wrong, it is looked at so often: some of it ends by the time alone.
const AGAIN: Duration = Duration::from_secs(60);
/// After a look nothing is looked at for so many times what it took, so that a site that changes all the
/// time costs little; and within these bounds.
const REST: u32 = 20;
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Keeps the account of what `status` shows, until it has nothing to show any more.
pub(crate) async fn keep(status: impl AsyncFn() -> Option<Value>) {
    let mut stirred = journal::stirred();
    let mut telling = Telling::default();
    loop {
        let began = clock::now();
        // What is stirred from here on is looked at next time.
        stirred.mark_unchanged();
        // Without an answer the store has died, and the process ends.
        let Some(status) = status().await else { return };
        let now = clock::now();
        telling.handle_units(&units(&status));
        telling.handle_look(now, standings(&status), unheard(&status));
        telling.handle_well(&well(&status));
        while let Some(line) = telling.poll_line() {
            line.write();
        }
        clock::sleep((now.since(began) * REST).clamp(SHORTEST, LONGEST)).await;
        let again = telling.is_anything_wrong().then(|| now + AGAIN);
        let due = [again, telling.poll_timeout()].into_iter().flatten().min();
        tokio::select! {
            _stirred = stirred.changed() => {}
            () = until(due) => {}
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => clock::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Line {
    fn write(&self) {
        match self {
            Self::Works { who, devices } => {
                tracing::info!(unit = who, devices, "all devices answer");
            }
            Self::Begins(fault) => {
                let Standing { who, code, what, place, cause, todo, .. } = fault;
                let of = fault.share();
                if fault.is_grave() {
                    tracing::error!(
                        unit = who,
                        code,
                        of,
                        what,
                        r#where = place,
                        cause,
                        todo,
                        "a person is needed"
                    );
                } else {
                    tracing::warn!(
                        unit = who,
                        code,
                        of,
                        what,
                        r#where = place,
                        cause,
                        todo,
                        "degraded; it is tried again for ever"
                    );
                }
            }
            Self::Changed(fault) => {
                let Standing { who, code, what, place, .. } = fault;
                let of = fault.share();
                if fault.is_grave() {
                    tracing::error!(unit = who, code, of, what, r#where = place, "changed");
                } else {
                    tracing::warn!(unit = who, code, of, what, r#where = place, "changed");
                }
            }
            Self::Over { was, after } => {
                let Standing { who, code, what, place, .. } = was;
                let (of, after_s) = (was.share(), after.as_secs());
                tracing::info!(unit = who, code, of, what, r#where = place, after_s, "works again");
            }
            Self::Still(faults) => {
                let grave = faults.iter().any(Standing::is_grave);
                let faults = telling::list(faults);
                if grave {
                    tracing::error!(faults, "still wrong; `tidegate status` says what to do");
                } else {
                    tracing::warn!(faults, "still degraded; `tidegate status` says what to do");
                }
            }
        }
    }
}
