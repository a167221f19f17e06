//! `read`: values of registers, each once, with what lay on the wire beside it.

use super::{
    End,
    place::Bench,
    question::Read,
    sweep::{Entries, Walk, range, register_keys, walk, wrong},
};
use crate::{Device, config::Wanted, pdu::Exception, plan::Want, point::Point, value::Kind};
use adapter_api::{Quality, Reading, Value, inquiry::Telling};
use serde_json::{Map, Value as Json, json};

/// Values one question may ask for.
const AT_MOST: usize = 2_000;

/// Answers with one line for each value.
pub(super) async fn run(bench: &Bench, read: Read, to: &Telling) -> Result<(), End> {
    let device = device(bench, &read)?;
    let mut place = bench.place(&device, &read.at)?;
    let mut wanted = std::mem::take(&mut place.target.resources);
    wanted.sort_by_key(|wanted| wanted.want);
    let mut asked = Walk::new(wanted.iter().map(|wanted| wanted.want).collect());
    walk(&mut asked, &mut place.way, place.target.unit, to).await?;
    for wanted in wanted {
        let refused = asked.refused.iter().find(|(want, _)| *want == wanted.want);
        let line = line(&wanted, &asked.entries, refused.map(|(_, exception)| *exception));
        to.tell(json!({ "value": line })).await?;
    }
    let wire = place.way.wire().to_string();
    Ok(to.tell(json!({ "done": { "wire": wire, "unit": place.target.unit } })).await?)
}

/// A device that has what is asked for.
fn device(bench: &Bench, read: &Read) -> Result<Device, End> {
    let mut device = bench.device(&read.at, json!({}), read.form.base)?;
    let configured = match &read.at.endpoint {
        Some(endpoint) => Some(&bench.endpoint(endpoint)?.resources),
        None => None,
    };
    if read.registers.is_empty() {
        device.resources = configured.cloned().ok_or_else(|| {
            let hint = "write for example holding:0, input:10..20, or --endpoint NAME for all it has";
            End::Wrong("it is not said what to read".to_owned(), Some(hint.to_owned()))
        })?;
    }
    let mut made = Map::new();
    for text in &read.registers {
        match configured.and_then(|known| known.get_key_value(text.as_str())) {
            Some((name, register)) => {
                device.resources.insert(name.clone(), register.clone());
            }
            None => made.extend(registers(text, read, device.base)?),
        }
        if made.len() > AT_MOST {
            return Err(wrong(text, format!("at most {AT_MOST} values at once"), None));
        }
    }
    if !made.is_empty() {
        device.resources.extend(bench.device(&read.at, Json::Object(made), None)?.resources);
    }
    Ok(device)
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
