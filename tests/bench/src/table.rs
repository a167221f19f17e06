//! Results as rows of a Markdown table, ready for `RESULTS.md`.

use std::time::Duration;

/// One section's rows, printed as they come.
pub struct Table;

impl Table {
    pub fn new(section: &str) -> Self {
        println!("\n### {section}\n\n| what | figure | goal | |\n|---|---|---|---|");
        Self
    }

    /// A figure with a goal, and whether it was reached.
    pub fn judge(&mut self, what: &str, figure: &str, goal: &str, reached: bool) {
        let verdict = if reached { "reached" } else { "**below goal**" };
        println!("| {what} | {figure} | {goal} | {verdict} |");
    }

    /// A figure without a goal.
    pub fn tell(&mut self, what: &str, figure: &str) {
        println!("| {what} | {figure} | | |");
    }

    pub fn skip(&mut self, what: &str, why: &str) {
        println!("| {what} | SKIPPED: {why} | | |");
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (_, _) if sorted.is_empty() => f64::NAN,
        (middle, 0) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (middle, _) => sorted[middle],
    }
}

/// The value that so many percent do not exceed.
pub fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
