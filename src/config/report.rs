//! `[endpoints.NAME.report]`: which readings are reported, and what is computed of them.
//!
//! Not here: what the rules do (`shape::report`).

use super::{
    check::{Half, KeyPath, Notes, Severity},
    low, suggest,
};
use crate::shape::{
    expr::Expr,
    report::{RESULTS, Report, Rule, has_names},
};
use adapter_api::{Resource, Span};
use std::{collections::BTreeMap, time::Duration};

const DAY: Duration = Duration::from_secs(86_400);

/// The rules of a table; `None` where they would withhold nothing and make nothing.
pub(super) fn check(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Report) -> Option<Report> {
    let &low::Report { on_change, deadband, deadband_percent, heartbeat, min_interval, window, .. } = low;
    let all = low::Rule { on_change, deadband, deadband_percent, heartbeat, min_interval, window };
    let default = rule(notes, at, &all, Rule::default());
    let table = at.key("resources");
    let mut rules = BTreeMap::new();
    for (resource, low) in &low.resources {
        let at = table.key(resource.as_str());
        let rule = rule(notes, &at, low, default);
        window_alone(notes, &at, low, &rule);
        heartbeat_works(notes, &at, low, &rule);
        if rule.window.is_some() && !has_names(resource) {
            notes.error(&at, "with .min, .max and .mean its name has more than 128 bytes");
        }
        rules.insert(resource.clone(), rule);
    }
    // What does nothing for all may be meant for those that lift the window or have a deadband.
    if rules.values().all(|rule| rule.window.is_some()) {
        window_alone(notes, at, &all, &default);
    }
    if !rules.values().any(Rule::compares) {
        heartbeat_works(notes, at, &all, &default);
    }
    let table = at.key("expressions");
    let mut expressions = Vec::with_capacity(low.expressions.len());
    for (resource, text) in &low.expressions {
        match Expr::parse(text) {
            Ok(expr) => expressions.push((resource.clone(), expr)),
            Err(error) => {
                let hint = "as in \"voltage * current\" or \"min(a, b) > 5 ? a : 'another one'\"";
                notes.error_with(&table.key(resource.as_str()), error.to_string(), hint);
            }
        }
    }
    let report = Report::new(default, rules, expressions);
    (!report.is_idle()).then_some(report)
}

/// One rule; what it does not say is as in `above`, and 0 and false lift what that says.
fn rule(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Rule, above: Rule) -> Rule {
    let mut span = |key, value: Option<Span>, above| match value.map(Span::duration) {
        None => above,
        Some(Duration::ZERO) => None,
        Some(length) => {
            if !(Duration::from_secs(1)..=DAY).contains(&length) {
                notes.error(&at.key(key), "out of range: expected \"1s\" to \"24h\", or \"0s\" for none");
            }
            Some(length)
        }
    };
    let heartbeat = span("heartbeat", low.heartbeat, above.heartbeat);
    let min_interval = span("min_interval", low.min_interval, above.min_interval);
    let window = span("window", low.window, above.window);
    let mut width = |key, value: Option<f64>, most: f64, above| match value {
        None => above,
        Some(width) => {
            if !(0.0..=most).contains(&width) {
                notes.error(&at.key(key), format!("out of range: expected a number from 0 to {most}"));
            }
            width
        }
    };
    Rule {
        on_change: low.on_change.unwrap_or(above.on_change),
        deadband: width("deadband", low.deadband, 1e15, above.deadband),
        deadband_percent: width("deadband_percent", low.deadband_percent, 100.0, above.deadband_percent),
        heartbeat,
        min_interval,
        window,
    }
}

/// Nothing else counts beside a window.
fn window_alone(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Rule, rule: &Rule) {
    if rule.window.is_none() {
        return;
    }
    let others = [
        ("on_change", low.on_change == Some(true)),
        ("deadband", low.deadband.is_some_and(|width| width != 0.0)),
        ("deadband_percent", low.deadband_percent.is_some_and(|width| width != 0.0)),
        ("heartbeat", low.heartbeat.is_some_and(|length| !length.is_zero())),
        ("min_interval", low.min_interval.is_some_and(|length| !length.is_zero())),
    ];
    for (key, _) in others.into_iter().filter(|(_, said)| *said) {
        let hint = "remove it, or lift the window with window = \"0s\"";
        notes.error_with(&at.key(key), "does nothing beside `window`, which goes before it", hint);
    }
}

/// A heartbeat needs something that withholds, and is no shorter than the minimum interval.
fn heartbeat_works(notes: &mut Notes<'_>, at: &KeyPath, low: &low::Rule, rule: &Rule) {
    let (None, Some(heartbeat)) = (rule.window, rule.heartbeat) else { return };
    if low.heartbeat.is_some() && !rule.compares() {
        let what = "does nothing: without a deadband every value is reported";
        notes.error_with(&at.key("heartbeat"), what, "add on_change = true or a deadband");
    }
    let key = match (low.heartbeat, low.min_interval) {
        (Some(_), _) => "heartbeat",
        (None, Some(_)) => "min_interval",
        (None, None) => return,
    };
    if rule.min_interval.is_some_and(|interval| heartbeat < interval) {
        let hint = "make the heartbeat as long as the minimum interval, or longer";
        notes.error_with(&at.key(key), "`heartbeat` is shorter than `min_interval`", hint);
    }
}

/// Compares names with the resources that the adapter knows, if it knows any.
pub(super) fn check_names(notes: &mut Notes<'_>, at: &KeyPath, report: &Report, known: &[Resource]) {
    let is_made = |name: &Resource| report.expressions().any(|(made, _)| made == name);
    let near = |name: &Resource| suggest::did_you_mean(name.as_str(), known.iter().map(Resource::as_str));
    if !known.is_empty() {
        for resource in report.ruled().filter(|name| !known.contains(name) && !is_made(name)) {
            let hint = near(resource).unwrap_or_else(|| "remove it; no reading has this name".to_owned());
            let key = at.key("resources").key(resource.as_str());
            let what = "this endpoint has no such resource".to_owned();
            notes.add(Severity::Error, &key, Half::Key, what, Some(hint));
        }
    }
    for (resource, expr) in report.expressions() {
        let key = at.key("expressions").key(resource.as_str());
        if known.contains(resource) {
            let what = "the device has a resource of this name".to_owned();
            notes.add(
                Severity::Error,
                &key,
                Half::Key,
                what,
                Some("give the result another name".to_owned()),
            );
        }
        for input in expr.inputs() {
            let (name, column) = (&input.resource, input.column);
            if is_made(name) {
                let what = format!("at column {column}: an expression cannot use the result of another");
                notes.error_with(&key, what, "write out what that one computes");
            } else if !known.is_empty() && !known.contains(name) {
                let hint =
                    near(name).unwrap_or_else(|| "name resources as the adapter's table does".to_owned());
                notes.error_with(
                    &key,
                    format!("at column {column}: this endpoint has no such resource"),
                    hint,
                );
            }
        }
    }
    let all = known.iter().chain(report.expressions().map(|(name, _)| name));
    for (resource, result) in all.flat_map(|name| results(report, name).into_iter().map(move |r| (name, r))) {
        if known.contains(&result) || is_made(&result) {
            let key = at.key("resources").key(resource.as_str()).key("window");
            let what = "a result of this window has the name of another resource";
            notes.error_with(&key, what, "rename that resource, or aggregate another one");
        }
    }
}

/// The resources that the rules make, where those of the adapter are known.
pub(super) fn made(report: &Report, known: &[Resource]) -> Vec<Resource> {
    let expressions: Vec<Resource> = report.expressions().map(|(name, _)| name.clone()).collect();
    let windows = known.iter().chain(&expressions).flat_map(|name| results(report, name));
    let windows: Vec<Resource> = windows.collect();
    [expressions, windows].concat()
}

/// What a resource's window is reported as.
fn results(report: &Report, resource: &Resource) -> Vec<Resource> {
    if report.rule(resource).window.is_none() {
        return Vec::new();
    }
    let names = RESULTS.iter().map(|result| format!("{}{result}", resource.as_str()));
    names.filter_map(|name| Resource::new(&name).ok()).collect()
}
