//! What can be typed, and what it does.

mod bundle;
mod check;
mod diff;
mod doctor;
#[cfg(feature = "modbus")]
mod init;
mod manage;
#[cfg(feature = "modbus")]
mod modbus;
#[cfg(feature = "pages")]
mod pages;
#[cfg(feature = "modbus")]
mod profiles;
mod queue;
mod run;
#[cfg(feature = "modbus")]
mod simulate;
mod tail;

use crate::{config, control::client, log};
use adapter_api::clock;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Where the packaged configuration lies.
const CONFIG: &str = config::files::PACKAGED_FILE;
/// How long the command line waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// sysexits(3): something is wrong with the configuration, or with a database that is not for this version.
const EX_CONFIG: u8 = 78;

/// Edge gateway: carries the devices of a site to a cloud platform and loses nothing on the way.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground
    Run {
        #[command(flatten)]
        file: File,
    },
    /// Check a configuration without running it
    Check {
        /// The file to check [default: /etc/tidegate/tidegate.toml]
        file: Option<PathBuf>,
        /// The same, as the other commands take it
        #[arg(short, long, conflicts_with = "file")]
        config: Option<PathBuf>,
        /// JSON for scripts
        #[arg(long)]
        json: bool,
    },
    /// Look for what is wrong: configuration, clock, disk, serial ports, the way to the platform
    Doctor(Ask),
    /// Write a first configuration, and try the device and the platform it names
    #[cfg(feature = "modbus")]
    Init(Box<init::Options>),
    /// Have the running gateway read its configuration anew
    Reload(Ask),
    /// Show what a file would change of the running gateway
    Diff {
        /// The file, as it would take the place of the configuration
        file: PathBuf,
        #[command(flatten)]
        ask: Ask,
    },
    /// Enable or disable an endpoint of the running gateway, also for later starts
    #[command(subcommand)]
    Endpoint(manage::Switch),
    /// Change how much the running gateway logs, until it is started or reloaded
    ///
    /// On top of what is in force: [log] of the configuration, or in place of it TIDEGATE_LOG, where the gateway's
    /// environment has that, as TIDEGATE_LOG=info,tidegate::uplink=debug.
    Log(manage::Telling),
    /// Tools for Modbus wires: read, scan, identify, find, trace
    #[cfg(feature = "modbus")]
    #[command(subcommand)]
    Modbus(Box<modbus::Tool>),
    /// Show a whole site with a platform, in one process, and count what arrives
    Demo(crate::demo::Options),
    /// Write manual pages and completions
    #[cfg(feature = "pages")]
    #[command(hide = true)]
    Pages(pages::Options),
    /// Show how the running gateway is doing
    Status(Ask),
    /// Show endpoints: last value and its age, presence, rate, queue
    Endpoints {
        /// A name, or a pattern as 'boiler-*'
        endpoint: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show readings as they are committed, and what is refused
    Tail(tail::Tail),
    /// Show what is queued, or the dead letters; requeue or discard them
    Queue(queue::Queue),
    /// Show which models of devices are known, or what is read from one
    #[cfg(feature = "modbus")]
    Profiles(profiles::Options),
    /// Play a device, to try a configuration against
    #[cfg(feature = "modbus")]
    #[command(subcommand)]
    Simulate(simulate::Simulated),
    /// Pack what those need who are asked for help; without secrets
    SupportBundle(bundle::Options),
    /// Show the last values of an endpoint
    Read {
        /// The endpoint
        endpoint: String,
        /// One of its resources
        resource: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
}

#[derive(Debug, Args)]
struct File {
    /// Configuration file
    #[arg(short, long, default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Ask {
    #[command(flatten)]
    file: File,
    /// Control socket [default: the one of the configuration]
    #[arg(long)]
    socket: Option<PathBuf>,
    /// JSON for scripts
    #[arg(long)]
    json: bool,
}

/// Does what was typed.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    log::panics_are_plain();
    match cli.command {
        Command::Doctor(ask) => block_on(doctor::run(ask)),
        #[cfg(feature = "modbus")]
        Command::Init(options) => block_on(init::run(*options)),
        Command::Run { file } => block_on(run::run(&file.config)),
        Command::Reload(ask) => block_on(manage::reload(ask)),
        Command::Diff { file, ask } => block_on(diff::diff(&file, ask)),
        Command::Endpoint(switch) => block_on(manage::switch(switch)),
        Command::Log(telling) => block_on(manage::log(telling)),
        Command::Check { file, config, json } => {
            check::run(&file.or(config).unwrap_or_else(|| CONFIG.into()), json)
        }
        #[cfg(feature = "modbus")]
        Command::Modbus(tool) => block_on(modbus::run(*tool)),
        Command::Demo(options) => block_on(crate::demo::run(options)),
        #[cfg(feature = "pages")]
        Command::Pages(options) => pages::run(&options),
        #[cfg(feature = "modbus")]
        Command::Profiles(options) => profiles::run(&options),
        #[cfg(feature = "modbus")]
        Command::Simulate(simulated) => block_on(simulate::run(simulated)),
        Command::SupportBundle(options) => block_on(bundle::run(options)),
        Command::Status(ask) => block_on(show(ask, "/v1/status".into(), client::status_text)),
        Command::Endpoints { endpoint, ask } => {
            let query = endpoint.map(|e| format!("?filter={}", client::segment(&e))).unwrap_or_default();
            block_on(show(ask, format!("/v1/endpoints{query}"), client::endpoints_text))
        }
        Command::Tail(tail) => block_on(tail::run(tail)),
        Command::Queue(queue) => block_on(queue::run(queue)),
        Command::Read { endpoint, resource, ask } => {
            let query = resource.map(|r| format!("?resource={}", client::segment(&r))).unwrap_or_default();
            block_on(show(
                ask,
                format!("/v1/latest/{}{query}", client::segment(&endpoint)),
                client::latest_text,
            ))
        }
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // One thread: units and the store have their own.
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?.block_on(future)
}

async fn show(ask: Ask, question: String, people: fn(&Value) -> String) -> anyhow::Result<ExitCode> {
    let answer = reach(&ask, async |socket| client::ask(socket, &question).await).await?;
    print(&ask, &answer, people)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the gateway is asked.
fn socket(ask: &Ask) -> Result<PathBuf, config::SocketUnknown> {
    ask.socket.clone().map_or_else(|| config::control_socket(&ask.file.config), Ok)
}

/// Asks the gateway, and does not wait for ever.
async fn reach(
    ask: &Ask,
    question: impl AsyncFnOnce(&Path) -> Result<Value, client::AskError>,
) -> anyhow::Result<Value> {
    let socket = socket(ask)?;
    let asked = clock::timeout(PATIENCE, question(&socket)).await;
    Ok(asked.with_context(|| format!("the gateway on {} does not answer", socket.display()))??)
}

/// For scripts or for people.
fn print(ask: &Ask, answer: &Value, people: fn(&Value) -> String) -> io::Result<()> {
    if ask.json {
        return writeln!(io::stdout(), "{}", client::json_text(answer));
    }
    write!(io::stdout(), "{}", people(answer))
}
