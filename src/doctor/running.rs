//! The gateway that answers on the control socket: that it does, and what it says is wrong.

use super::{Finding, Verdict};
use crate::{
    control::client::{self, AskError},
    fault, notify,
};
use adapter_api::clock;
use serde_json::Value;
use std::{path::Path, time::Duration};
use tokio::net::UnixStream;

const AREA: &str = "gateway";
/// How long it may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was learnt of it.
pub(super) struct Running {
    pid: Option<u32>,
    answer: Result<Value, AskError>,
}

impl Running {
    /// Asks whoever listens there.
    pub(super) async fn ask(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.ok();
        let peer = stream.and_then(|stream| stream.peer_cred().ok()).and_then(|peer| peer.pid());
        let unreadable = || AskError::Unreadable { path: socket.to_owned() };
        let answer = clock::timeout(PATIENCE, client::ask(socket, "/v1/status")).await;
        let answer = answer.unwrap_or_else(|_| Err(unreadable()));
        Self { pid: peer.and_then(|pid| u32::try_from(pid).ok()), answer }
    }

    /// Its process, if one listens.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether it answered.
    pub(super) fn answers(&self) -> bool {
        self.answer.is_ok()
    }

    /// A part of its status; null where there is none.
    pub(super) fn status(&self, pointer: &str) -> &Value {
        let status = self.answer.as_ref().ok();
        status.and_then(|status| status.pointer(pointer)).unwrap_or(&Value::Null)
    }

    /// `unit`: the service's that it may be. That it runs or not, and the faults it tells of.
    pub(super) fn findings(&self, socket: &Path, unit: &str) -> Vec<Finding> {
        let path = socket.display();
        match &self.answer {
            Err(error @ AskError::Silent { .. }) if self.pid.is_none() => {
                let todo = format!(
                    "if it should: `systemctl start {unit}`, and `journalctl -u {unit}` says why not"
                );
                vec![Finding::warning(AREA, error.to_string(), todo)]
            }
            Err(error) => {
                let todo =
                    format!("`journalctl -u {unit}` may say why; `systemctl restart {unit}` loses nothing");
                vec![Finding {
                    place: path.to_string(),
                    ..Finding::error(AREA, format!("it listens and does not answer: {error}"), todo)
                }]
            }
            Ok(_) => {
                let version = self.status("/version").as_str().unwrap_or("unknown");
                let queued = self.status("/ledger/queued").as_u64().unwrap_or_default();
                let mut findings = vec![Finding::ok(
                    AREA,
                    format!("version {version} answers on {path}; {queued} samples are queued"),
                )];
                findings.extend(self.faults().into_iter().filter_map(told));
                // No fault of what it does: it is in nobody's way.
                findings.extend(told(self.status("/configuration/late")));
                findings
            }
        }
    }

    /// All of them, each once.
    fn faults(&self) -> Vec<&Value> {
        let mut faults: Vec<&Value> = Vec::new();
        for fault in notify::faults(self.status("")) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }
}

/// A fault as the gateway tells it.
fn told(fault: &Value) -> Option<Finding> {
    let part = |key: &str| fault.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let what = part("what");
    // What may mend itself is tried again for ever.
    let verdict = if fault::is_grave(&part("code")) { Verdict::Error } else { Verdict::Warning };
    (!what.is_empty()).then(|| Finding {
        code: Some(part("code")).filter(|code| !code.is_empty()),
        place: part("where"),
        cause: part("cause"),
        todo: part("todo"),
        ..Finding::of(AREA, verdict, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_to_be_done_names_the_unit_of_the_instance() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let running = Running::ask(&socket).await;
        let findings = running.findings(&socket, "tidegate@second");
        let [silent] = findings.as_slice() else { panic!("{findings:?}") };
        for command in ["systemctl start", "journalctl -u"] {
            assert!(silent.todo.contains(&format!("`{command} tidegate@second`")), "{silent}");
        }
    }
}
