//! `tidegate modbus trace`: the traffic of a running gateway, as a file for Wireshark.

use super::{
    Place,
    road::{Road, Settings},
};
use adapter_api::{Span, shown};
use adapter_modbus::tools::{
    Question, Trace,
    pcapng::{self, Packet},
};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

/// What can be typed.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The file to write
    #[arg(short, long, default_value = "modbus.pcapng")]
    write: PathBuf,
    /// For how long [default: until Ctrl-C]
    #[arg(long)]
    seconds: Option<u64>,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let road = Road::find(&options.place, Settings::One).await?;
    if !road.is_live() {
        bail!(
            "only a running gateway has traffic, and none that runs here has this wire (systemctl status tidegate)"
        );
    }
    let path = shown(&options.write.to_string_lossy()).to_string();
    let opened = File::create(&options.write).with_context(|| format!("{path} cannot be written"))?;
    let mut file = Capture { file: BufWriter::new(opened), wires: Vec::new(), since_boot: false };
    file.file.write_all(&pcapng::section())?;
    file.file.flush()?;
    let trace = Trace { at: road.at(), length: options.seconds.map(Span::from_secs) };
    let mut answer = road.ask(Question::Trace(trace), options.place.json);
    let (mut frames, mut lost) = (0_u64, 0);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        // What was read of the answer is in the file before the next line is asked for.
        let line = tokio::select! {
            line = answer.next() => line?,
            _ = &mut interrupted => None,
        };
        let Some(line) = line else { break };
        if let Some(frame) = line.get("frame") {
            frames += u64::from(file.take(frame)?);
        } else if let Some(done) = line.get("done") {
            lost = done.get("lost").and_then(Value::as_u64).unwrap_or_default();
        } else if line.get("tracing").is_some() && !options.place.json {
            writeln!(io::stderr(), "tracing; Ctrl-C ends it")?;
        }
    }
    file.file.flush()?;
    if !options.place.json {
        writeln!(io::stdout(), "{frames} frames in {path}; look at them with: tshark -r {path}")?;
        if lost > 0 {
            writeln!(io::stdout(), "{lost} more came too fast and are missing")?;
        }
        if file.since_boot {
            writeln!(io::stdout(), "the clock was not yet known: times count from the start of the machine")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file in the making.
struct Capture {
    file: BufWriter<File>,
    /// Interfaces, in the order of their numbers.
    wires: Vec<String>,
    since_boot: bool,
}

impl Capture {
    /// Writes a frame, at once: a trace that was cut short is good up to its end. False if it was none.
    fn take(&mut self, frame: &Value) -> io::Result<bool> {
        let text = |key| frame.get(key).and_then(Value::as_str);
        let us = frame.get("us").and_then(Value::as_i64).and_then(|us| u64::try_from(us).ok());
        let (Some(wire), Some(framing), Some(us)) = (text("wire"), text("framing"), us) else {
            return Ok(false);
        };
        let Some(bytes) = text("hex").and_then(bytes) else { return Ok(false) };
        self.since_boot |= frame.get("since_boot") == Some(&Value::Bool(true));
        let known = self.wires.iter().position(|known| known == wire);
        let interface = known.unwrap_or(self.wires.len());
        if known.is_none() {
            self.file.write_all(&pcapng::interface(wire, &format!("Modbus {framing} at {wire}")))?;
            self.wires.push(wire.to_owned());
        }
        let packet = Packet {
            interface: u32::try_from(interface).unwrap_or_default(),
            us,
            ours: frame.get("ours") == Some(&Value::Bool(true)),
            tcp: framing == "tcp",
            bytes: &bytes,
            missing: frame
                .get("missing")
                .and_then(Value::as_u64)
                .and_then(|missing| usize::try_from(missing).ok())
                .unwrap_or_default(),
        };
        self.file.write_all(&pcapng::packet(&packet))?;
        self.file.flush()?;
        Ok(true)
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    let byte = |[high, low]: &[u8; 2]| Some(nibble(*high)? << 4 | nibble(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
