//! `identify`: what a device says of itself (function 43/14), and what its registers give away.
//!
//! Not here: device profiles, which know more of some devices.

use super::{
    End,
    place::{Bench, Place},
    question::Identify,
    way::{Way, end},
};
use crate::{
    identity::{self, Access, Identity},
    link::Trouble,
    outside::Unheard,
    pdu::{Answer, Request},
    point::{Point, Table},
    sunspec::{BASES, MARKER},
    value::Order,
};
use adapter_api::inquiry::Telling;
use serde_json::{Map, Value, json};

/// Texts of the common model: name, offset from "SunS", registers.
const COMMON: [(&str, u16, u16); 4] =
    [("vendor", 4, 16), ("model", 20, 16), ("version", 44, 8), ("serial", 52, 16)];
const COMMON_LENGTH: u16 = 68;

/// Answers with a line for each object, and one for what is known of it.
pub(super) async fn run(bench: &Bench, identify: &Identify, to: &Telling) -> Result<(), End> {
    let mut place = bench.place(&identify.at)?;
    let ended = tell(&mut place, to).await;
    place.way.settle(ended, to).await
}

async fn tell(place: &mut Place, to: &Telling) -> Result<(), End> {
    let (way, unit) = (&mut place.way, place.target.unit);
    let (identity, why) = ask(way, unit).await.map_err(|unheard| end(unheard, way.place(unit)))?;
    for (number, value) in &identity.objects {
        let name = identity::name(*number).map_or_else(|| format!("object {number:#04x}"), str::to_owned);
        to.tell(json!({ "object": { "id": number, "name": name, "value": text(value) } })).await?;
    }
    if let Some(why) = why {
        to.tell(json!({ "no_identification": why })).await?;
    }
    let known = recognized(way, unit).await.map_err(|unheard| end(unheard, way.place(unit)))?;
    for known in &known {
        to.tell(json!({ "known": known })).await?;
    }
    let wire = way.wire().to_string();
    Ok(to.tell(json!({ "done": { "wire": wire, "unit": unit, "known": known.len() } })).await?)
}

/// Vendor, product code and revision on one line, if the device tells them.
pub(super) async fn in_short(way: &mut Way, unit: u8) -> Option<String> {
    let (identity, _) = ask(way, unit).await.ok()?;
    let texts: Vec<String> =
        [0, 1, 2].iter().filter_map(|id| identity.objects.get(id)).map(|v| text(v)).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// All objects; or why there are none, where it is the device that says so.
async fn ask(way: &mut Way, unit: u8) -> Result<(Identity, Option<String>), Unheard> {
    // A device gives what it has to whoever asks for more; some refuse instead (§6.21).
    let mut why = None;
    for access in [Access::Extended, Access::Regular, Access::Basic] {
        let mut identity = Identity::new(access);
        let mut next = Some(identity.begin());
        while let Some(question) = next {
            match way.ask(unit, question.into()).await {
                Ok(Answer::Identity(page)) => next = identity.handle_page(page),
                Ok(Answer::Refused(exception)) => {
                    why = Some(exception.to_string());
                    next = None;
                    // It does not know the function at all.
                    if exception.0 == 1 {
                        return Ok((identity, why));
                    }
                }
                Ok(_) => next = None,
                // Many that do not know it are silent.
                Err(Unheard::Device(Trouble::Silent(_) | Trouble::Noise(_) | Trouble::Mismatch)) => {
                    why = Some("the device does not answer function 43".to_owned());
                    return Ok((identity, why));
                }
                Err(unheard) => return Err(unheard),
            }
        }
        if !identity.objects.is_empty() {
            return Ok((identity, None));
        }
    }
    Ok((Identity::new(Access::Basic), why.or_else(|| Some("the device has no objects".to_owned()))))
}

/// What its registers give away.
async fn recognized(way: &mut Way, unit: u8) -> Result<Vec<Value>, Unheard> {
    let mut known = Vec::new();
    for start in BASES {
        if words(way, unit, Table::Holding, start, 2).await?.is_some_and(|words| words == MARKER) {
            known.push(sunspec(way, unit, start).await?);
            break;
        }
    }
    let volts = words(way, unit, Table::Input, 0, 2).await?.and_then(|words| single(&words));
    let hertz = match volts {
        Some(_) => words(way, unit, Table::Input, 70, 2).await?.and_then(|words| single(&words)),
        None => None,
    };
    if let (Some(volts), Some(hertz)) = (volts, hertz)
        && (80.0..300.0).contains(&volts)
        && (45.0..65.0).contains(&hertz)
    {
        known.push(json!({
            "as": "Eastron SDM meter, or one with the same registers",
            "by": format!("input:0 is {volts:.1} V and input:70 is {hertz:.2} Hz, as f32"),
        }));
    }
    Ok(known)
}

async fn sunspec(way: &mut Way, unit: u8, start: u16) -> Result<Value, Unheard> {
    let mut said = Map::new();
    said.insert("as".to_owned(), json!("SunSpec"));
    let point = Point { table: Table::Holding, address: start };
    said.insert("by".to_owned(), json!(format!("{point} says \"SunS\"")));
    if let Some(common) = words(way, unit, Table::Holding, start, COMMON_LENGTH).await? {
        for (name, offset, length) in COMMON {
            let (from, length) = (usize::from(offset), usize::from(length));
            if let Some(words) = common.get(from..from + length) {
                let bytes: Vec<u8> = Order::default().bytes(words);
                said.insert(name.to_owned(), json!(text(&bytes)));
            }
        }
    }
    Ok(said.into())
}

/// Registers, if the device has them.
async fn words(
    way: &mut Way,
    unit: u8,
    table: Table,
    start: u16,
    count: u16,
) -> Result<Option<Vec<u16>>, Unheard> {
    match way.ask(unit, Request { table, start, count }.into()).await {
        Ok(Answer::Words(words)) => Ok(Some(words)),
        Ok(_) => Ok(None),
        // Some are silent about registers that they do not have.
        Err(Unheard::Device(Trouble::Silent(_))) => Ok(None),
        Err(unheard) => Err(unheard),
    }
}

fn single(words: &[u16]) -> Option<f32> {
    let [high, low] = words else { return None };
    Some(f32::from_bits(u32::from(*high) << 16 | u32::from(*low)))
}

/// Up to the first NUL, and as ISO 8859-1 where it is no UTF-8.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or_default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    text.trim().to_owned()
}
