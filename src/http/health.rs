//! `/healthz`: whether the gateway keeps what it is given, and whether anything else is wrong.
//!
//! Without the platform it still does its work, so that is degraded and no reason to start it anew.

use crate::{control::view::View, notify};
use adapter_api::clock;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// The store answers within it, or is not well; so do all others together.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn look(view: &View) -> (StatusCode, Value) {
    match clock::timeout(PATIENCE, view.store.figures()).await {
        Ok(Ok(_)) => {}
        Ok(Err(closed)) => return unavailable(&closed.to_string()),
        Err(late) => return unavailable(&format!("the store: {late}")),
    }
    // A unit that does not answer is not the store.
    let status = clock::timeout(PATIENCE, view.status()).await.ok().and_then(Result::ok);
    (StatusCode::OK, judged(status.as_ref()))
}

fn unavailable(why: &str) -> (StatusCode, Value) {
    (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "unavailable", "why": why }))
}

/// What a status comes down to. The codes only: whoever watches need not read names.
fn judged(status: Option<&Value>) -> Value {
    let Some(status) = status else {
        return json!({ "status": "degraded", "why": "a part of the gateway does not answer" });
    };
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let codes: BTreeSet<String> =
        notify::faults(status).into_iter().map(|fault| text(fault, "code")).collect();
    let uplink = status.pointer("/uplink/state").and_then(Value::as_str).unwrap_or_default();
    let units = status.get("units").and_then(Value::as_array).into_iter().flatten();
    let stopped = units.filter(|unit| text(unit, "state") != "running").count();
    if codes.is_empty() && matches!(uplink, "up" | "none") && stopped == 0 {
        return json!({ "status": "ok" });
    }
    json!({ "status": "degraded", "uplink": uplink, "faults": codes, "units_not_running": stopped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_comes_down_to_a_word() {
        let check = |status: Option<Value>, expected: &str| {
            assert_eq!(judged(status.as_ref())["status"], expected, "{status:?}");
        };
        let fault = json!({ "code": "TG-102", "what": "refused", "where": "here" });
        check(Some(json!({ "uplink": { "state": "up" } })), "ok");
        check(Some(json!({ "uplink": { "state": "none" }, "units": [{ "state": "running" }] })), "ok");
        check(Some(json!({ "uplink": { "state": "connecting" } })), "degraded");
        check(Some(json!({ "uplink": { "state": "degraded" } })), "degraded");
        check(Some(json!({ "uplink": { "state": "up" }, "faults": [fault] })), "degraded");
        check(Some(json!({ "uplink": { "state": "up" }, "units": [{ "state": "stalled" }] })), "degraded");
        check(Some(json!({ "uplink": { "state": "up", "fault": fault } })), "degraded");
        check(None, "degraded");
    }
}
