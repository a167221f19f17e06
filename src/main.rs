//! Exit codes and nothing else: 0 good, 1 failed, 2 mistyped, 78 configuration (sysexits.h).

use clap::Parser;
use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    match tidegate::cli::run(tidegate::cli::Cli::parse()) {
        Ok(code) => code,
        // Whoever read our output has gone, as `head` does.
        Err(error) if error.chain().any(is_broken_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            let _unwritable =
                writeln!(io::stderr(), "tidegate: {}", adapter_api::shown(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
