//! What stands wrong in a status, as the control socket tells it: one entry for each unit and kind. Sans-IO.

use crate::fault::{self, Code};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A connection that was in use and is lost is mostly back within this: platforms end sessions as they like.
const CUT: Duration = Duration::from_secs(10);

/// A fault that stands, of one unit and kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// `modbus.boiler-room`, `uplink`, `store`.
    pub(super) who: String,
    /// `TG-101`
    pub(super) code: String,
    pub(super) what: String,
    pub(super) place: String,
    pub(super) cause: String,
    pub(super) todo: String,
    /// How many have it, of how many, and what they are; where they are counted.
    pub(super) count: Option<(usize, usize, &'static str)>,
}

impl Standing {
    fn new(who: &str, fault: &Value) -> Option<Self> {
        let text = |key: &str| fault.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            who: who.to_owned(),
            code: text("code")?,
            what: text("what").unwrap_or_default(),
            place: text("where").unwrap_or_default(),
            cause: text("cause").unwrap_or_default(),
            todo: text("todo").unwrap_or_default(),
            count: None,
        })
    }

    /// `17 of 30 devices`, where more than one has it.
    pub(super) fn share(&self) -> Option<String> {
        let (count, of, what) = self.count.filter(|(count, ..)| *count > 1)?;
        Some(format!("{count} of {of} {what}"))
    }

    /// How many have it.
    pub(super) fn many(&self) -> usize {
        self.count.map_or(1, |(count, ..)| count)
    }

    /// Whether data is lost or a person is needed.
    pub(super) fn is_grave(&self) -> bool {
        fault::is_grave(&self.code)
    }

    /// How long it has to stand to be told.
    pub(super) fn settles_in(&self) -> Duration {
        // The last one: an uplink that does not answer now may be busy.
        let cut = [Code::Lost, Code::Closed, Code::NoConfirmation, Code::UnitEnded];
        let cut = self.who == "uplink" && cut.iter().any(|code| code.id() == self.code);
        if cut { CUT } else { Duration::ZERO }
    }

    /// Whether there is something else to tell of it than there was.
    pub(super) fn differs(&self, told: &Self) -> bool {
        match (self.count, told.count) {
            // Of several, who is named first does not matter.
            (Some((now, ..)), Some((then, ..))) if now > 1 || then > 1 => now != then,
            _ => (&self.what, &self.place) != (&told.what, &told.place),
        }
    }
}

/// All that stands.
pub(super) fn standings(status: &Value) -> Vec<Standing> {
    let mut all = Vec::new();
    let at = |pointer: &str| status.pointer(pointer).unwrap_or(&Value::Null);
    let alone = |all: &mut Vec<Standing>, who, fault| all.extend(Standing::new(who, fault));
    alone(&mut all, "configuration", at("/configuration/fault"));
    alone(&mut all, "store", at("/store_full"));
    for fault in each(at("/faults")) {
        let http = fault.get("code").and_then(Value::as_str) == Some(Code::HttpListener.id());
        alone(&mut all, if http { "http" } else { "store" }, fault);
    }
    let over = each(at("/quotas")).find_map(|quota| Standing::new("store", quota.get("fault")?));
    let endpoints = number(at("/endpoints"));
    if let Some(first) = over {
        all.push(Standing { count: Some((number(at("/over_quota")), endpoints, "endpoints")), ..first });
    }
    alone(&mut all, "uplink", at("/uplink/fault"));
    let parked = counts(at("/uplink/parked_codes"));
    for fault in each(at("/uplink/faults")) {
        all.extend(
            Standing::new("uplink", fault).map(|fault| fault.counted(&parked, endpoints, "endpoints")),
        );
    }
    for unit in each(at("/units")) {
        let name = unit.get("name").and_then(Value::as_str).unwrap_or_default();
        let silent = counts(unit.get("offline_codes").unwrap_or(&Value::Null));
        let of = configured(unit);
        for fault in each(unit.get("faults").unwrap_or(&Value::Null)) {
            all.extend(Standing::new(name, fault).map(|fault| fault.counted(&silent, of, "devices")));
        }
    }
    all
}

/// Who did not answer, and of whom it is not known what stands beside that.
pub(super) fn unheard(status: &Value) -> Option<&'static str> {
    status.pointer("/uplink/parked_codes").is_some_and(Value::is_null).then_some("uplink")
}

/// The units there are.
pub(super) fn units(status: &Value) -> BTreeSet<&str> {
    let units = each(status.get("units").unwrap_or(&Value::Null));
    units.filter_map(|unit| unit.get("name").and_then(Value::as_str)).collect()
}

/// Units of which nothing is wrong and all devices answer, and how many these are.
pub(super) fn well(status: &Value) -> BTreeMap<&str, usize> {
    let is = |value: &Value, key, wanted| value.get(key).and_then(Value::as_str) == Some(wanted);
    let well = each(status.get("units").unwrap_or(&Value::Null)).filter_map(|unit| {
        let online = number(unit.pointer("/presence/online")?);
        let faults = each(unit.get("faults")?).count();
        let well = is(unit, "health", "up") && faults == 0 && online > 0 && online == configured(unit);
        well.then_some((unit.get("name")?.as_str()?, online))
    });
    well.collect()
}

fn configured(unit: &Value) -> usize {
    number(unit.get("configured").unwrap_or(&Value::Null))
}

fn number(value: &Value) -> usize {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default()
}

impl Standing {
    fn counted(self, by_code: &BTreeMap<&str, usize>, of: usize, what: &'static str) -> Self {
        let count = by_code.get(self.code.as_str()).map(|count| (*count, of, what));
        Self { count, ..self }
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// How many there are of each code.
fn counts(codes: &Value) -> BTreeMap<&str, usize> {
    codes.as_object().into_iter().flatten().map(|(code, count)| (code.as_str(), number(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_unit_is_well_when_all_its_devices_answer() {
        let answer = |online: u64, offline: u64| json!({ "online": online, "asleep": 0, "offline": offline });
        let unit = |name: &str, health: &str, configured: u64, presence: Value, faults: Value| json!({ "name": name, "health": health, "configured": configured, "presence": presence, "faults": faults });
        let status = json!({ "units": [
            unit("well", "up", 2, answer(2, 0), json!([])),
            unit("one is not known yet", "up", 3, answer(2, 0), json!([])),
            unit("one is silent", "up", 2, answer(1, 1), json!([])),
            unit("degraded", "degraded", 2, answer(2, 0), json!([{ "code": "TG-442" }])),
            unit("stalled", "up", 2, answer(2, 0), json!([{ "code": "TG-218" }])),
            unit("idle", "up", 0, answer(0, 0), json!([])),
        ]});
        assert_eq!(well(&status), BTreeMap::from([("well", 2)]));
        assert_eq!(well(&json!({})), BTreeMap::new());
    }

    #[test]
    fn an_uplink_that_does_not_answer_is_told_from_one_that_refuses_nothing() {
        assert_eq!(unheard(&json!({ "uplink": { "parked_codes": null } })), Some("uplink"));
        assert_eq!(unheard(&json!({ "uplink": { "parked_codes": {} } })), None);
        assert_eq!(unheard(&json!({})), None);
    }

    #[test]
    fn a_status_is_put_together_by_unit_and_kind() {
        let fault = |code: &str, place: &str| json!({ "code": code, "what": "it is so", "where": place });
        let check = |status: Value, expected: &[&str]| {
            let shown = standings(&status).into_iter().map(|s| {
                let of = s.share().map(|share| format!(" ({share})")).unwrap_or_default();
                format!("{} {} {}{of}", s.who, s.code, s.place)
            });
            assert_eq!(shown.collect::<Vec<_>>(), expected, "{status}");
        };
        check(json!({}), &[]);
        check(
            json!({ "endpoints": 9, "store_full": null, "faults": [], "uplink": { "fault": null }, "units": [] }),
            &[],
        );
        check(
            json!({
                "configuration": { "fault": fault("TG-302", "line 7") },
                "endpoints": 200,
                "store_full": fault("TG-222", "store.max_bytes"),
                "faults": [fault("TG-155", "queue")],
                "over_quota": 2,
                "quotas": [{ "fault": null }, { "fault": fault("TG-221", "e1") }, { "fault": fault("TG-221", "e2") }],
                "uplink": {
                    "fault": fault("TG-102", "h port 8883"),
                    "parked_codes": { "TG-154": 2, "TG-109": 1 },
                    "faults": [fault("TG-154", "e1 and 1 more"), fault("TG-109", "e3")],
                },
                "units": [
                    {
                        "name": "modbus.a",
                        "configured": 4,
                        "presence": { "online": 1, "asleep": 0, "offline": 2 },
                        "offline_codes": { "TG-431": 2 },
                        "faults": [fault("TG-431", "m2 and 1 more"), fault("TG-442", "m1")],
                    },
                    { "name": "test.b", "faults": [fault("TG-218", "test.b")] },
                ],
            }),
            &[
                "configuration TG-302 line 7",
                "store TG-222 store.max_bytes",
                "store TG-155 queue",
                "store TG-221 e1 (2 of 200 endpoints)",
                "uplink TG-102 h port 8883",
                "uplink TG-154 e1 and 1 more (2 of 200 endpoints)",
                "uplink TG-109 e3",
                "modbus.a TG-431 m2 and 1 more (2 of 4 devices)",
                "modbus.a TG-442 m1",
                "test.b TG-218 test.b",
            ],
        );
    }
}
