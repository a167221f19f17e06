//! The way to the platform. While the gateway is connected nobody logs in beside it.

use super::{Finding, Verdict, running::Running};
use crate::{
    config::UplinkConfig,
    fault::{Code, Fault},
    uplink::probe::{Probe, Stage, Step},
};
use adapter_api::FaultKind;
use std::time::Duration;

/// Each step may take so long, or less where the configuration says so.
const PATIENCE: Duration = Duration::from_secs(10);
/// A certificate that ends within so many days is spoken of.
const SOON: u64 = 30;

pub(super) async fn examine(uplink: &UplinkConfig, running: &Running) -> Vec<Finding> {
    let connected = matches!(running.status("/uplink/state").as_str(), Some("up" | "degraded"));
    let client_id = format!("{}-doctor", uplink.client_id.as_deref().unwrap_or("tidegate"));
    let probe = Probe {
        config: uplink,
        client_id: (!connected).then_some(client_id.as_str()),
        patience: PATIENCE.min(uplink.confirm_timeout),
    };
    let mut findings: Vec<Finding> = probe.steps().await.into_iter().map(finding).collect();
    if connected {
        let address = running.status("/uplink/address").as_str().unwrap_or_default();
        findings.push(Finding::ok(area(Stage::Login), format!("the gateway is connected to {address}")));
    }
    findings
}

fn area(stage: Stage) -> &'static str {
    match stage {
        Stage::Name => "name",
        Stage::Port => "port",
        Stage::Tls => "TLS",
        Stage::Login => "login",
    }
}

fn finding(Step { stage, found, days_left }: Step) -> Finding {
    let area = area(stage);
    match (found, days_left) {
        (Ok(what), Some(days)) if days < SOON => {
            let kind = FaultKind::from(Code::Expired);
            let todo = "the platform's operator has to renew it; nothing connects any more when it has ended";
            Finding { code: Some(kind.code.to_owned()), ..Finding::warning(area, what, todo) }
        }
        (Ok(what), _) => Finding::ok(area, what),
        // The gateway's own one may be the only one that is allowed.
        (Err(fault), _) if fault.code == Code::ClientIdRefused.id() => {
            let what = "the login cannot be tried: the platform refuses the client id used for the trial";
            let todo = "start the gateway; `tidegate status` tells whether its own is taken";
            let fault = Fault { what: what.to_owned(), ..fault }.with_remedy(todo.to_owned());
            Finding::fault(area, fault).but(Verdict::Warning)
        }
        (Err(fault), _) => Finding::fault(area, fault),
    }
}
