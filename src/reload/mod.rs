//! What a change of the configuration means for what runs, and how it is noticed.
//!
//! | file | responsible for |
//! |---|---|
//! | `plan` | from two configurations to what starts, stops, restarts and changes live (sans-IO) |
//! | `tell` | a plan in words and in JSON |
//! | `watch` | the file, and those it names: noticed when their content changes |
//!
//! Not here: carrying a plan out (`daemon`), and whether a file is taken at all (`config`).

pub mod plan;
#[cfg(test)]
mod plan_tests;
mod tell;
pub mod watch;

pub use plan::{Plan, plan};
