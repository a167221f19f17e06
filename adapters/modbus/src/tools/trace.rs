//! `trace`: the frames of a running adapter's wires, as they go.

use super::{End, place::Bench, question::Trace};
use crate::frame::Framing;
use adapter_api::{
    Stamp,
    clock::{now, timeout},
    inquiry::Telling,
};
use serde_json::json;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// As good as for ever.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Answers with a line for each frame.
pub(super) async fn run(bench: &Bench, trace: &Trace, to: &Telling) -> Result<(), End> {
    if bench.buses.is_none() {
        let hint = "start it (systemctl start tidegate), or read once with `tidegate modbus read`";
        let why = "only a running gateway has traffic, and none has this wire".to_owned();
        return Err(End::Wrong(why, Some(hint.to_owned())));
    }
    let wanted = match (&trace.at.endpoint, &trace.at.wire) {
        (None, None) => None,
        _ => Some(bench.place(&trace.at)?.target.wire),
    };
    let mut frames = bench.tap.listen();
    let framing = bench.line.framing;
    to.tell(json!({ "tracing": { "wire": wanted.as_ref().map(ToString::to_string) } })).await?;
    let end = now() + trace.length.map_or(YEAR, adapter_api::Span::duration);
    let (mut shown, mut lost) = (0_u64, 0_u64);
    // A time-out is its orderly end.
    while let Ok(received) = timeout(end.since(now()), frames.recv()).await {
        match received {
            Ok(frame) => {
                if wanted.as_ref().is_some_and(|wanted| *wanted != frame.wire) {
                    continue;
                }
                let (us, since_boot) = match frame.at {
                    Stamp::Wall { us, .. } => (us, false),
                    Stamp::Mono { us, .. } => (us, true),
                };
                shown += 1;
                to.tell(json!({ "frame": {
                    "wire": frame.wire.to_string(),
                    "us": us,
                    "since_boot": since_boot,
                    "ours": frame.ours,
                    "missing": frame.missing,
                    "framing": if framing == Framing::Tcp { "tcp" } else { "rtu" },
                    "hex": hex(&crate::frame::for_trace(framing, &frame.bytes)),
                } }))
                .await?;
            }
            Err(RecvError::Lagged(missed)) => lost += missed,
            Err(RecvError::Closed) => break,
        }
    }
    Ok(to.tell(json!({ "done": { "frames": shown, "lost": lost } })).await?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
