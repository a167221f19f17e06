//! The optional HTTP listener: `/healthz`, `/metrics` and the status page. Off unless `http.listen` is given.
//!
//! | file | responsible for |
//! |---|---|
//! | `listen` | the address; its connections, and for how long |
//! | `crowd` | how many connections there may be, and which one goes for another |
//! | `guard` | who is answered: the names in `Host`, pages of others, tokens (sans-IO) |
//! | `answer` | what there is under which path |
//! | `brief` | long values, many devices: what of an answer is for a page (sans-IO) |
//! | `change` | what can be changed, with the token |
//! | `health` | `/healthz`: ok, degraded, unavailable |
//! | `metrics` | `/metrics`: the text for Prometheus (sans-IO) |
//! | `page/` | the page itself, built into the program |
//!
//! It is a unit on a thread of its own, so that nobody who looks holds up what is looked at (I8).
//!
//! Not here: the figures, which are the control socket's (`control::view`).

mod answer;
mod brief;
mod change;
mod crowd;
mod guard;
mod health;
mod listen;
mod metrics;

use crate::{
    config::HttpConfig,
    control::live::Live,
    fault::{self, Code, Fault, Notice},
    supervisor::{self, Unit},
};
use adapter_api::{CancellationToken, Instant};
use std::sync::Arc;

/// The listener, on or off.
pub struct Http {
    notice: Notice,
    live: Live,
    running: Option<(HttpConfig, Unit)>,
}

impl Http {
    /// Off until [`Http::apply`].
    pub fn new(notice: Notice, live: Live) -> Self {
        Self { notice, live, running: None }
    }

    /// Does as the configuration says: starts, stops, or starts anew if it is another one. Never fails: what
    /// cannot be is a fault of `status`, and tried again.
    pub async fn apply(&mut self, config: Option<&HttpConfig>, deadline: Instant) {
        if self.running.as_ref().map(|(running, _)| running) == config {
            return;
        }
        self.stop(deadline).await;
        let Some(config) = config else { return };
        let shutdown = CancellationToken::new();
        let site = Arc::new(answer::Site::new(config.clone(), self.live.clone()));
        let (listen, notice, stop) = (config.listen, self.notice.clone(), shutdown.clone());
        let run = move || listen::run(listen, site.clone(), notice.clone(), stop.clone());
        match supervisor::start("http".into(), shutdown, run) {
            Ok(unit) => self.running = Some((config.clone(), unit)),
            Err(error) => {
                let what = format!("no thread for it: {}", fault::words(&error));
                self.notice.set(Some(Fault::new(Code::NoThread, what, "http.listen")));
            }
        }
    }

    /// Ends it and all its connections, at the latest then.
    pub async fn stop(&mut self, deadline: Instant) {
        if let Some((_, mut unit)) = self.running.take()
            && !unit.stop(deadline).await
        {
            tracing::warn!("the HTTP listener did not stop in time; it is left behind");
        }
        self.notice.set(None);
    }
}
