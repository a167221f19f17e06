//! A whole site with a platform in one process.

use std::process::ExitCode;

/// Options of `tidegate demo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds of polling
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Simulated endpoints
    #[arg(long, default_value_t = 4)]
    pub endpoints: usize,
    /// Only the last line, as JSON
    #[arg(long)]
    pub json: bool,
    /// Let the platform confirm one batch that it throws away
    #[arg(long)]
    pub sabotage: bool,
}

/// Runs the demo.
pub async fn run(_options: Options) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
