//! `tidegate pages`, hidden: manual pages and completions, written from the command line itself while a package is
//! built.

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::{fs, path::PathBuf, process::ExitCode};

/// Where they go.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// An existing directory
    directory: PathBuf,
}

/// Writes a page for each command, `tidegate.1` first, and a file for each shell.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let directory = &options.directory;
    let write = |what: &str| format!("{what} in {}", directory.display());
    let mut command = super::Cli::command();
    clap_mangen::generate_to(command.clone(), directory).with_context(|| write("manual pages"))?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, "tidegate", &mut text);
        let name = match shell {
            Shell::Fish => "tidegate.fish",
            Shell::Zsh => "_tidegate",
            _ => "tidegate",
        };
        fs::write(directory.join(name), text).with_context(|| write(name))?;
    }
    Ok(ExitCode::SUCCESS)
}
