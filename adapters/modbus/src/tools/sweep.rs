//! Reads ranges of a table and goes around what the device refuses. Sans-IO.
//!
//! A refused request is halved until the refused entries are alone; a table that the device does not
//! serve at all is left at the first word. Nothing is remembered for the next time.

use super::{
    End,
    place::{Bench, Place},
    question::{self, Form},
    way::{Way, end, said_by_gateway},
};
use crate::{
    pdu::{Answer, Exception, Request},
    plan::{Limits, Want},
    point::{Point, Table},
};
use adapter_api::inquiry::Telling;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::RangeInclusive,
};

/// One request's worth of a line of an answer.
const ROW: usize = 125;
/// Entries one question may ask for: all of both tables of registers.
const AT_MOST: usize = 2 * 65_536;

/// Entries by table and address; bits are 0 and 1.
pub(super) type Entries = BTreeMap<(Table, u16), u16>;

/// What is still to be asked, and what has come.
#[derive(Debug)]
pub(super) struct Walk {
    open: VecDeque<Vec<Want>>,
    /// Asked for now.
    asked: Vec<Want>,
    pub(super) entries: Entries,
    pub(super) refused: Vec<(Want, Exception)>,
}

impl Walk {
    /// Values that are not torn, as they lie side by side.
    pub(super) fn new(mut wants: Vec<Want>, limits: Limits) -> Self {
        wants.sort_unstable();
        wants.dedup();
        let mut open: VecDeque<Vec<Want>> = VecDeque::new();
        for want in wants {
            let joins = |block: &&mut Vec<Want>| {
                let (Some(first), Some(last)) = (block.first(), block.last()) else { return false };
                let end = u32::from(want.start) + u32::from(want.length);
                want.table == first.table
                    && u32::from(want.start) <= u32::from(last.start) + u32::from(last.length)
                    && end.saturating_sub(first.start.into()) <= u32::from(limits.of(first.table))
            };
            match open.back_mut().filter(joins) {
                Some(block) => block.push(want),
                None => open.push_back(vec![want]),
            }
        }
        Self { open, asked: Vec::new(), entries: Entries::new(), refused: Vec::new() }
    }

    /// The next request.
    pub(super) fn poll_request(&mut self) -> Option<Request> {
        let block = self.open.pop_front()?;
        let (first, end) = (block.first()?, block.iter().map(|want| want.start + (want.length - 1)).max()?);
        let request = Request { table: first.table, start: first.start, count: end - first.start + 1 };
        self.asked = block;
        Some(request)
    }

    /// Takes the answer to it.
    pub(super) fn handle_answer(&mut self, request: Request, answer: &Answer) {
        let block = std::mem::take(&mut self.asked);
        let mut keep = |values: &mut dyn Iterator<Item = u16>| {
            for (address, value) in (request.start..=u16::MAX).zip(values) {
                self.entries.insert((request.table, address), value);
            }
        };
        match answer {
            Answer::Words(words) => keep(&mut words.iter().copied()),
            Answer::Bits(bits) => keep(&mut bits.iter().map(|bit| u16::from(*bit))),
            Answer::Refused(exception) if exception.0 == 1 => {
                let (of_it, others) = self.open.drain(..).partition(|block: &Vec<Want>| {
                    block.first().is_some_and(|want| want.table == request.table)
                });
                self.open = others;
                let of_it: VecDeque<Vec<Want>> = of_it;
                let all = block.into_iter().chain(of_it.into_iter().flatten());
                self.refused.extend(all.map(|want| (want, *exception)));
            }
            Answer::Refused(exception) if exception.is_about_addresses() && block.len() > 1 => {
                let (left, right) = block.split_at(middle(&block));
                self.open.push_front(right.to_vec());
                self.open.push_front(left.to_vec());
            }
            Answer::Refused(exception) => {
                self.refused.extend(block.into_iter().map(|want| (want, *exception)));
            }
            // Not an answer to a read; whoever asked sees to that.
            _ => {}
        }
    }

    /// Entries still to be asked for.
    pub(super) fn left(&self) -> usize {
        self.open.iter().flatten().map(|want| usize::from(want.length)).sum()
    }
}

/// Where a refused block is cut. Single registers are kept in pairs at even addresses: some devices
/// refuse the halves of their 32-bit values.
fn middle(block: &[Want]) -> usize {
    let half = block.len() / 2;
    let odd = block.get(half).is_some_and(|want| want.length == 1 && want.start % 2 == 1);
    if odd && half + 1 < block.len() { half + 1 } else { half }
}

/// `holding:0..199` (both ends), `40001..40020` or a single register, as its table and its addresses.
pub(super) fn range(text: &str, base: Option<i64>) -> Result<(Table, RangeInclusive<u16>), End> {
    let base = match base {
        None => None,
        Some(0) => Some(0),
        Some(1) => Some(1),
        Some(_) => return Err(wrong("base", "registers are counted from 0 or from 1", None)),
    };
    let (first, last) = text.split_once("..").unwrap_or((text, ""));
    let point = |text: &str| Point::read(text, base).map_err(|error| wrong(text, error, Some(error.hint())));
    let from = point(first)?;
    let to = match (last, first.split_once(':')) {
        ("", _) if first.len() == text.len() => from,
        (last, Some((table, _))) if !last.contains(':') => point(&format!("{table}:{last}"))?,
        (last, _) => point(last)?,
    };
    if from.table != to.table || to.address < from.address {
        let hint = "write the first and the last register of one table: \"holding:0..199\"";
        return Err(wrong(text, "not a range", Some(hint.to_owned())));
    }
    Ok((from.table, from.address..=to.address))
}

pub(super) fn wrong(what: &str, why: impl fmt::Display, hint: Option<String>) -> End {
    End::Wrong(format!("{what}: {why}"), hint)
}

/// Reads what is left, telling how far it is about once in a hundred entries.
pub(super) async fn walk(walk: &mut Walk, way: &mut Way, unit: u8, to: &Telling) -> Result<(), End> {
    let of = walk.left();
    while let Some(request) = walk.poll_request() {
        let answer = match way.ask(unit, request.into()).await {
            Err(unheard) => match said_by_gateway(&unheard) {
                // A gateway that says it for a device which has answered before.
                Some(exception) if !walk.entries.is_empty() => Answer::Refused(exception),
                _ => return Err(end(unheard, way.place(unit))),
            },
            Ok(answer) => answer,
        };
        walk.handle_answer(request, &answer);
        if of > ROW {
            to.tell(json!({ "progress": { "done": of.saturating_sub(walk.left()), "of": of } })).await?;
        }
    }
    Ok(())
}

/// `sweep`: all that is there, in rows of neighbours.
pub(super) async fn run(bench: &Bench, question: &question::Sweep, to: &Telling) -> Result<(), End> {
    let mut place = bench.place(&question.at)?;
    let ended = ask(bench, question, &mut place, to).await;
    place.way.settle(ended, to).await
}

async fn ask(bench: &Bench, question: &question::Sweep, place: &mut Place, to: &Telling) -> Result<(), End> {
    let base = match &question.at.endpoint {
        Some(endpoint) => question.base.or(bench.endpoint(endpoint)?.base),
        None => question.base,
    };
    let mut wants = Vec::new();
    for text in &question.ranges {
        let (table, addresses) = range(text, base)?;
        wants.extend(addresses.map(|start| Want { table, start, length: 1 }));
        if wants.len() > AT_MOST {
            return Err(wrong(text, "more registers than a device has", None));
        }
    }
    let mut asked = Walk::new(wants, place.target.manner.limits);
    walk(&mut asked, &mut place.way, place.target.unit, to).await?;
    for row in rows(&asked.entries) {
        to.tell(row).await?;
    }
    let refused: BTreeMap<String, usize> =
        asked.refused.iter().fold(BTreeMap::new(), |mut count, (_, why)| {
            *count.entry(why.to_string()).or_default() += 1;
            count
        });
    Ok(to.tell(json!({ "done": { "read": asked.entries.len(), "refused": refused } })).await?)
}

fn rows(entries: &Entries) -> Vec<Value> {
    let mut rows: Vec<(Table, u16, Vec<u16>)> = Vec::new();
    for (&(table, address), &value) in entries {
        match rows.last_mut() {
            Some((of, start, values))
                if *of == table
                    && values.len() < ROW
                    && usize::from(*start) + values.len() == usize::from(address) =>
            {
                values.push(value);
            }
            _ => rows.push((table, address, vec![value])),
        }
    }
    let row = |(table, start, values): (Table, u16, Vec<u16>)| json!({ "row": { "table": table.name(), "start": start, "values": values } });
    rows.into_iter().map(row).collect()
}

/// The keys a register has in a configuration, by how it was asked for.
pub(super) fn register_keys(register: &str, form: &Form, is_bits: bool) -> Value {
    let kind = form.kind.as_deref().or((!is_bits).then_some("u16"));
    json!({
        "register": register, "type": kind, "order": form.order, "length": form.length, "scale": form.scale,
    })
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
