//! Report rules: which of an endpoint's readings are worth sending. Sans-IO.
//!
//! Per resource: on change, beyond a deadband, at least as often as a heartbeat, at most as often as a
//! minimum interval; the least, greatest and mean value of a window of time; and expressions, whose results
//! are resources like others. Without a rule everything is reported.
//!
//! - A reading is compared with the last one that was *reported*. The first one after a start and a change
//!   between good, uncertain and bad are always reported, at once. A change of any other kind of value than
//!   a number, and of the words of a quality, is a change like that of a number beyond the deadband.
//! - A deadband in per cent is one of the last value reported: at 0 every change goes beyond it. With both
//!   deadbands the wider one counts, which helps there.
//! - A heartbeat is driven by samples: a silent device has none.
//! - What comes before the minimum interval is over is withheld. The last of it that is still a change then is
//!   reported with its own stamp: at the end of the interval, or at an orderly stop. An interval is over when
//!   the samples' stamps say so, or their arrival: so a backlog is judged by its stamps, in its order, and no
//!   clock that is set back silences a device. The next interval begins when the one before is reported, by
//!   either measure.
//! - A window takes numbers. What is bad or no number is reported on change, and leaves a doubt in the results.
//! - A window has one result. A number that is too late for its window (a later one is open, or it was closed)
//!   changes no result and is reported as it is. Where for a window's length and its grace none came in time, the
//!   clock was set back: windows begin anew, marked uncertain until they are later than any there was.
//! - Samples are cut down to the readings that are reported. One of which nothing is left is counted as
//!   suppressed, with the reason, in the transaction that would have stored it; its device is answered after the
//!   COMMIT (I1). What is made here (results of windows, values that were withheld) is offered and stored as
//!   samples of the gateway's own: `offered(report)` in the ledger. None is larger than a sample may be: there
//!   are as many of one stamp as it takes. What expressions add to a sample goes with it as far as it has room.
//! - What was reported is known by what was committed: a transaction that fails changes nothing here (`desk`).
//!   It is not kept over a restart. After a crash, withheld values of the last interval and the open windows
//!   are lost, as the raw values they stand for would be by the same rule; the first window of a resource
//!   after a start is marked uncertain, and so is one that an orderly stop closes early.
//! - Of an endpoint the first 4,096 resources with a rule have one; of more than that everything is reported.
//! - What was stored stays reported, also if it is dropped later for want of space or age, or refused by the
//!   platform. Where that may happen to a value that rarely changes, a heartbeat repeats it.
//!
//! Not here: the keys of the configuration (`config::report`), and the transaction (`store::thread::report`).

mod book;
mod compare;
mod desk;
mod outcome;
#[cfg(test)]
mod tests;
mod window;

use super::expr::Expr;
use adapter_api::Resource;
pub(super) use desk::Desks;
pub use desk::Judged;
use std::{collections::BTreeMap, time::Duration};
pub use window::{RESULTS, has_names};

/// What is reported of a resource. The default is everything.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rule {
    /// Only what differs from the last value reported.
    pub on_change: bool,
    /// Only what differs by more than this; finite and not below 0.
    pub deadband: f64,
    /// Only what differs by more than so many per cent of the last value reported; finite and not below 0.
    pub deadband_percent: f64,
    /// With one of the above: also what does not, this long after the last one.
    pub heartbeat: Option<Duration>,
    /// Not more often than this.
    pub min_interval: Option<Duration>,
    /// In place of the numbers, what they were over so long. Nothing of the above counts then.
    pub window: Option<Duration>,
}

/// The rules of an endpoint.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    default: Rule,
    rules: BTreeMap<Resource, Rule>,
    expressions: Vec<Expression>,
    /// What the expressions need, in order.
    inputs: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq)]
struct Expression {
    resource: Resource,
    expr: Expr,
    /// Its inputs by their places among those of all.
    inputs: Vec<usize>,
}

impl Rule {
    /// Whether it withholds nothing.
    pub fn is_idle(&self) -> bool {
        !self.compares() && self.min_interval.is_none() && self.window.is_none()
    }

    /// Whether a reading is compared with the last one.
    pub fn compares(&self) -> bool {
        self.on_change || self.deadband > 0.0 || self.deadband_percent > 0.0
    }
}

impl Report {
    /// These rules, `default` for all other resources, and these expressions.
    pub fn new(
        default: Rule,
        rules: BTreeMap<Resource, Rule>,
        expressions: impl IntoIterator<Item = (Resource, Expr)>,
    ) -> Self {
        let expressions: Vec<(Resource, Expr)> = expressions.into_iter().collect();
        let all = expressions.iter().flat_map(|(_, expr)| expr.inputs());
        let mut inputs: Vec<Resource> = all.map(|input| input.resource.clone()).collect();
        inputs.sort();
        inputs.dedup();
        let placed = expressions.into_iter().map(|(resource, expr)| {
            let place = |resource| inputs.binary_search(resource).unwrap_or(usize::MAX);
            let inputs = expr.inputs().iter().map(|input| place(&input.resource)).collect();
            Expression { resource, expr, inputs }
        });
        Self { default, rules, expressions: placed.collect(), inputs }
    }

    /// Whether it withholds nothing and makes nothing.
    pub fn is_idle(&self) -> bool {
        self.default.is_idle() && self.rules.values().all(Rule::is_idle) && self.expressions.is_empty()
    }

    /// The rule of a resource.
    pub fn rule(&self, resource: &Resource) -> Rule {
        self.rules.get(resource).copied().unwrap_or(self.default)
    }

    /// The resources that have a rule of their own.
    pub fn ruled(&self) -> impl Iterator<Item = &Resource> {
        self.rules.keys()
    }

    /// The expressions by the names of their results.
    pub fn expressions(&self) -> impl Iterator<Item = (&Resource, &Expr)> {
        self.expressions.iter().map(|expression| (&expression.resource, &expression.expr))
    }
}
