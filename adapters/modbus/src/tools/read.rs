//! `read`: values of registers, each once, with what lay on the wire beside it.

use super::{
    End,
    place::{Bench, Place},
    question::Read,
    sweep::{Entries, Walk, range, register_keys, walk, wrong},
    way::end,
};
use crate::{
    Device,
    config::{Target, Wanted},
    fault,
    outside::Unheard,
    pdu::Exception,
    plan::Want,
    point::Point,
    sunspec::{self, Choice, Discovery, Step},
    value::Kind,
};
use adapter_api::{Quality, Reading, Resource, Value, clock::now, inquiry::Telling};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;

/// Values one question may ask for.
const AT_MOST: usize = 2_000;

/// Answers with one line for each value.
pub(super) async fn run(bench: &Bench, read: Read, to: &Telling) -> Result<(), End> {
    let mut place = bench.place(&read.at)?;
    let chosen = chosen(bench, &read, &mut place.target)?;
    let ended = ask(&mut place, chosen, to).await;
    place.way.settle(ended, to).await
}

/// What is to be read.
struct Chosen {
    known: Vec<Wanted>,
    /// What the device is to be asked for first.
    sunspec: Option<Choice>,
}

async fn ask(place: &mut Place, chosen: Chosen, to: &Telling) -> Result<(), End> {
    let mut wanted = chosen.known;
    if let Some(choice) = chosen.sunspec {
        wanted.extend(discover(place, choice, to).await?);
    }
    wanted.sort_by_key(|wanted| wanted.want);
    let wants = wanted.iter().map(|wanted| wanted.want).collect();
    let mut asked = Walk::new(wants, place.target.manner.limits);
    walk(&mut asked, &mut place.way, place.target.unit, to).await?;
    for wanted in wanted {
        let refused = asked.refused.iter().find(|(want, _)| *want == wanted.want);
        let line = line(&wanted, &asked.entries, refused.map(|(_, exception)| *exception));
        to.tell(json!({ "value": line })).await?;
    }
    let wire = place.way.wire().to_string();
    Ok(to.tell(json!({ "done": { "wire": wire, "unit": place.target.unit } })).await?)
}

/// What is named of an endpoint, all it has, or what was typed.
fn chosen(bench: &Bench, read: &Read, target: &mut Target) -> Result<Chosen, End> {
    let Some(endpoint) = &read.at.endpoint else {
        if read.registers.is_empty() {
            let hint = "write for example holding:0, input:10..20, or --endpoint NAME for all it has";
            return Err(End::Wrong("it is not said what to read".to_owned(), Some(hint.to_owned())));
        }
        return Ok(Chosen { known: typed(bench, read, &read.registers, target)?, sunspec: None });
    };
    let (known, sunspec) = (std::mem::take(&mut target.resources), target.sunspec.take());
    if read.registers.is_empty() {
        return Ok(Chosen { known, sunspec });
    }
    // Of a profile, also what is not polled. A SunSpec device is asked for it.
    let known = match &sunspec {
        Some(_) => known,
        None => bench.resolve(&Device { only: None, ..bench.endpoint(endpoint)?.clone() })?.resources,
    };
    let of_chain = |text: &str| {
        let name = Resource::new(text).ok().filter(|_| sunspec.is_some())?;
        sunspec::names().iter().any(|known| known.as_str() == sunspec::of_first(&name)).then_some(name)
    };
    let (mut named, mut only, mut others) = (Vec::new(), BTreeSet::new(), Vec::new());
    for text in &read.registers {
        if let Some(wanted) = known.iter().find(|wanted| wanted.resource.as_str() == text) {
            named.push(wanted.clone());
        } else if let Some(name) = of_chain(text) {
            only.insert(name);
        } else {
            others.push(text.clone());
        }
    }
    if !others.is_empty() {
        named.extend(typed(bench, read, &others, target)?);
    }
    let chain = sunspec.filter(|_| !only.is_empty());
    Ok(Chosen { known: named, sunspec: chain.map(|choice| Choice { only: Some(only), ..choice }) })
}

/// Registers as they were typed.
fn typed(bench: &Bench, read: &Read, texts: &[String], target: &Target) -> Result<Vec<Wanted>, End> {
    let base = read.form.base.or(target.base.map(i64::from));
    let mut made = Map::new();
    for text in texts {
        made.extend(registers(text, read, base)?);
        if made.len() > AT_MOST {
            return Err(wrong(text, format!("at most {AT_MOST} values at once"), None));
        }
    }
    bench.typed(&read.at, made.into(), read.form.base, target.manner.limits)
}

/// Asks a SunSpec device where what is wanted of it lies, and tells what it does not have.
async fn discover(place: &mut Place, choice: Choice, to: &Telling) -> Result<Vec<Wanted>, End> {
    let unit = place.target.unit;
    let (at, mut discovery, mut found) = (place.way.place(unit), Discovery::new(choice), Vec::new());
    while let Some(request) = discovery.poll_request(now(), true) {
        let step = match place.way.ask(unit, request.into()).await {
            Ok(answer) => discovery.handle_answer(now(), &answer),
            Err(unheard) => {
                let elsewhere = matches!(&unheard, Unheard::Device(trouble) if trouble.may_be_of_registers());
                let step = if elsewhere { discovery.handle_silence(now()) } else { None };
                step.ok_or_else(|| end(unheard, at.clone()))?
            }
        };
        match step {
            Step::On => {}
            Step::Later | Step::Same => {
                return Err(wrong(&at, "the device has no time", Some("ask again".to_owned())));
            }
            Step::Found(wanted) => {
                found = wanted;
                break;
            }
        }
    }
    match discovery.lack() {
        Some(lack) if found.is_empty() => Err(fault::lacking(lack, at).into()),
        Some(lack) => {
            to.tell(json!({ "lacking": lack.to_string() })).await?;
            Ok(found)
        }
        None => Ok(found),
    }
}

/// The values in a range: one behind the other, as long as their type is.
fn registers(text: &str, read: &Read, base: Option<i64>) -> Result<Map<String, Json>, End> {
    let (table, addresses) = range(text, base)?;
    let kind = read.form.kind.as_deref().and_then(|kind| Kind::NAMES.iter().find(|(name, _)| *name == kind));
    let of_kind = kind.and_then(|(_, kind)| kind.length());
    let length = of_kind.or(read.form.length.and_then(|length| u16::try_from(length).ok())).unwrap_or(1);
    let each = addresses.step_by(usize::from(length.max(1)));
    let first = u32::try_from(base.unwrap_or_default()).unwrap_or_default();
    Ok(each
        .map(|address| {
            let number = u32::from(address) + first;
            let register = format!("{}:{number}", table.name());
            let keys = register_keys(&register, &read.form, table.is_bits());
            // Named as it was asked for.
            let manual = u16::try_from(number).ok().filter(|_| !text.contains(':'));
            (manual.map_or(register, |number| table.in_manuals(number)), keys)
        })
        .collect())
}

fn line(wanted: &Wanted, entries: &Entries, refused: Option<Exception>) -> Json {
    let Want { table, start, length } = wanted.want;
    let at = Point { table, address: start }.to_string();
    let raw: Vec<u16> =
        (start..).take(length.into()).map_while(|address| entries.get(&(table, address)).copied()).collect();
    let mut line = Map::new();
    line.insert("register".to_owned(), json!(at));
    if wanted.resource.as_str() != at {
        line.insert("resource".to_owned(), json!(wanted.resource.as_str()));
    }
    if let Some(exception) = refused {
        line.insert("exception".to_owned(), json!(exception.0));
        line.insert("why".to_owned(), json!(exception.to_string()));
        return line.into();
    }
    line.insert("raw".to_owned(), raw.iter().map(|word| format!("{word:04x}")).collect());
    let reading = if table.is_bits() {
        raw.first().map(|bit| Reading::measured(wanted.resource.clone(), *bit == 1))
    } else {
        wanted.form.decode(wanted.resource.clone(), &raw)
    };
    if let Some(reading) = reading {
        line.insert("value".to_owned(), value_json(&reading.value));
        if let Quality::Bad(why) | Quality::Uncertain(why) = reading.quality {
            line.insert("why".to_owned(), json!(why));
        }
    }
    line.into()
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::Bool(v) => json!(v),
        Value::Int(v) => json!(v),
        Value::Uint(v) => json!(v.value()),
        Value::Float(v) => json!(v.value()),
        Value::Text(v) => json!(v),
        Value::Bytes(v) => json!(v.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        // Registers make no lists and no maps.
        Value::None | Value::List(_) | Value::Map(_) => Json::Null,
    }
}
