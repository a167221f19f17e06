//! `tidegate simulate`: a device that is not there, to try a configuration against.

use adapter_modbus::{
    profile::{Content, Library, NoProfile},
    simulate::{Place, Port, Slave},
};
use anyhow::Context;
use clap::{Args, Subcommand};
use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// What can be simulated.
#[derive(Debug, Subcommand)]
pub(super) enum Simulated {
    /// A Modbus slave with the registers of a profile; its values move
    Modbus(Options),
}

/// A Modbus slave.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Its model: one of `tidegate profiles`
    #[arg(long)]
    profile: String,
    /// Listen with Modbus TCP on ADDRESS:PORT [default: 127.0.0.1:5020]
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["pty", "serial"])]
    tcp: Option<SocketAddr>,
    /// Answer RTU on a new pseudo-terminal, to which this path leads
    #[arg(long, value_name = "PATH", conflicts_with = "serial")]
    pty: Option<PathBuf>,
    /// Answer RTU on this serial port
    #[arg(long, value_name = "DEVICE")]
    serial: Option<String>,
    /// Its unit identifier [default: the profile's, or 1]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=247))]
    unit: Option<u8>,
    /// Speed of the serial port [default: the profile's, or 19200]
    #[arg(long, requires = "serial", value_parser = clap::value_parser!(u32).range(50..=4_000_000))]
    baud: Option<u32>,
    /// Parity of the serial port [default: the profile's, or even]
    #[arg(long, requires = "serial", value_parser = ["even", "odd", "none"])]
    parity: Option<String>,
    /// Stop bits of the serial port [default: the profile's, or 1]
    #[arg(long, requires = "serial", value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: Option<u8>,
}

/// Plays it until it is interrupted.
pub(super) async fn run(simulated: Simulated) -> anyhow::Result<ExitCode> {
    let Simulated::Modbus(options) = simulated;
    let profile = Library::default().find(&options.profile).map_err(|error| match &error {
        NoProfile::Unknown { names } => anyhow::anyhow!("{error}; there are {}", names.join(", ")),
        _ => anyhow::anyhow!(error),
    })?;
    let defaults = profile.defaults.clone();
    let unit = options.unit.or(defaults.unit).unwrap_or(1);
    let place = match (options.pty, options.serial) {
        (Some(path), _) => Place::Pty(path),
        (_, Some(path)) => Place::Serial {
            path,
            baud: options.baud.or(defaults.baud).unwrap_or(19_200),
            parity: options.parity.or(defaults.parity).unwrap_or_else(|| "even".to_owned()),
            stop_bits: options.stop_bits.or(defaults.stop_bits).unwrap_or(1),
        },
        (None, None) => Place::Tcp(options.tcp.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 5020)))),
    };
    // Before anybody can see where it is.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let port = Port::open(place).await?;
    let what = match &profile.content {
        Content::Registers(entries) => format!("{} values", entries.len()),
        Content::SunSpec => "models 1, 103 and 203".to_owned(),
    };
    let said = format!(
        "{} {}, unit {unit}, {what}, on {port}\n`tidegate profiles {}` lists what it has; Ctrl-C ends it.\n",
        profile.vendor, profile.model, profile.name,
    );
    // At once: whoever waits for the first line may be gone before a second write.
    io::stdout().write_all(said.as_bytes())?;
    io::stdout().flush()?;
    // All arms are cancel-safe: what is dropped ends with us.
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        ended = port.serve(Slave::new(profile, unit)) => ended.context("the line was lost")?,
    }
    Ok(ExitCode::SUCCESS)
}
