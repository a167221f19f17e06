//! What a person at a ladder asks: read, scan, identify, look for a value, write down the traffic.
//!
//! ```text
//! Question -> place: which wire and unit -> way: over the running bus, or a wire opened for it
//!          -> sweep, scan, identify (sans-IO) -> lines of JSON
//! ```
//! Nothing is ever written to a device. Over a running bus the requests go between two polls
//! ([`crate::outside`]), so that polling goes on.
//!
//! Not here: tables for people, which are the command line's.

pub mod find;
mod identify;
pub mod pcapng;
mod place;
mod question;
mod read;
mod same;
mod scan;
mod sweep;
mod tap;
mod trace;
mod way;

pub use find::{Candidate, Image, NotShown, Shown, candidates};
pub(crate) use place::{Bench, Connections};
pub use question::{At, Form, Identify, Question, Read, Scan, Setting, Sweep, Trace};
pub use same::{same_host, wire_of};
pub(crate) use tap::{Heard, Tap, WireTap};

use crate::{Config, Device};
use adapter_api::{
    Clock, Devices, Fault, Issue,
    inquiry::{Gone, Telling},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Why a tool ends early.
#[derive(Debug)]
pub(crate) enum End {
    /// Nobody listens.
    Gone,
    /// It cannot go on, and why.
    Fault(Fault),
    /// The question makes no sense here, and what to write instead.
    Wrong(String, Option<String>),
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}
impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
/// The first thing that is wrong with what was typed.
impl From<Vec<Issue>> for End {
    fn from(issues: Vec<Issue>) -> Self {
        let Some(issue) = issues.into_iter().next() else {
            return Self::Wrong("this cannot be asked".to_owned(), None);
        };
        // A register's place is its own text, which says more than a path of keys.
        let place = match issue.path.as_slice() {
            [first, register, ..] if first == "resources" => format!("{register}: "),
            [key, ..] => format!("{key}: "),
            [] => String::new(),
        };
        Self::Wrong(format!("{place}{}", issue.why), issue.hint)
    }
}

/// Answers without a running gateway, over wires that are opened for it. Wire and devices are those
/// of `config` and `devices`, as in a configuration.
pub async fn answer_alone(config: Config, devices: Devices<Device>, question: Question, to: Telling) {
    let line = match crate::config::line(&config) {
        Ok(line) => line,
        Err(issues) => return last_words(End::from(issues), &to).await,
    };
    let seats = Arc::new(Semaphore::new(1));
    let bench =
        Bench { config, line, devices, buses: None, tap: Tap::new(), clock: Clock::trusting(), seats };
    answer(&bench, question, &to).await;
}

/// Answers an inquiry to a running adapter.
pub(crate) async fn answer_live(bench: Bench, question: Value, to: Telling) {
    match serde_json::from_value(question) {
        Ok(question) => answer(&bench, question, &to).await,
        Err(_) => {
            let why = "this gateway is of another version and does not understand the question";
            last_words(End::Wrong(why.to_owned(), None), &to).await;
        }
    }
}

async fn answer(bench: &Bench, question: Question, to: &Telling) {
    let answered = async {
        let asks_devices = !matches!(question, Question::Wires | Question::Trace(_));
        // It is never closed, and a seat is left with the tool.
        let _seat = if asks_devices { bench.seats.acquire().await.ok() } else { None };
        match question {
            Question::Wires => Ok(to.tell(bench.wires()).await?),
            Question::Read(read) => read::run(bench, read, to).await,
            Question::Sweep(sweep) => sweep::run(bench, &sweep, to).await,
            Question::Scan(scan) => scan::run(bench, scan, to).await,
            Question::Identify(identify) => identify::run(bench, &identify, to).await,
            Question::Trace(trace) => trace::run(bench, &trace, to).await,
        }
    };
    // Both arms may be dropped anywhere: a request that is in the wire is the bus's, or ours alone.
    let ended = tokio::select! {
        biased;
        () = to.gone() => Err(End::Gone),
        ended = answered => ended,
    };
    if let Err(end) = ended {
        last_words(end, to).await;
    }
}

async fn last_words(end: End, to: &Telling) {
    let line = match end {
        End::Gone => return,
        End::Fault(fault) => json!({ "fault": fault }),
        End::Wrong(why, hint) => json!({ "wrong": why, "hint": hint }),
    };
    // Whoever has gone in the meantime misses it.
    let _unheard = to.tell(line).await;
}
