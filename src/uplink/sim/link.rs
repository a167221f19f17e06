//! The simulated link: one connection at a time, bytes at the link's rate, cuts with what had left still
//! arriving or not, and the broker's session that keeps answers for the next connection.

use super::{
    Happening, World, engine,
    plan::{Kind, MINUTE, MS, SECOND, Us},
    platform::{self, Answer, Parcel, TOKENS},
    shelf::Number,
};
use crate::{
    dialect::{Frame, Path, Qos},
    uplink::{mqtt, outflow::PartId},
};
use std::collections::{BTreeSet, HashMap};

/// On a slow link not more than so many seconds' worth waits for the wire.
const WORTH: u64 = 12;

/// One connection and what the broker keeps between two of them.
#[derive(Default)]
pub(super) struct Link {
    /// The connection, if there is one.
    pub(super) up: Option<u64>,
    pub(super) last: u64,
    /// What had left before the last cut arrives all the same.
    pub(super) survivor: Option<u64>,
    /// The broker has hung up on this one, and hears nothing of it any more.
    pub(super) hung_up: Option<u64>,
    pub(super) since: Us,
    pub(super) free_at: Us,
    pub(super) latency: Us,
    pub(super) granted: BTreeSet<usize>,
    pub(super) common: bool,
    /// Sent and not acknowledged by the broker (QoS 0: not left), with their bytes.
    pub(super) air: HashMap<PartId, (usize, usize)>,
    pub(super) flying: (usize, usize),
    pub(super) sent: usize,
    pub(super) sent_bytes: usize,
    pub(super) anything_back: bool,
    /// Messages for the next connection.
    pub(super) session: Vec<Answer>,
}

impl World {
    pub(super) fn connect(&mut self) {
        self.link.last += 1;
        let conn = self.link.last;
        let (from, to) = self.plan.latency;
        self.link = Link {
            up: Some(conn),
            last: conn,
            survivor: self.link.survivor,
            hung_up: self.link.hung_up,
            since: self.now,
            free_at: self.now,
            latency: self.rng.u64(from..=to),
            session: std::mem::take(&mut self.link.session),
            ..Link::default()
        };
        let now = self.instant();
        self.engine.handle_link(now, mqtt::Event::Connected);
        for answer in std::mem::take(&mut self.link.session) {
            let after = self.rng.u64(..200 * MS);
            self.after(after, Happening::Inbound(conn, answer));
        }
    }

    /// The connection is gone.
    pub(super) fn cut(&mut self) {
        let Some(conn) = self.link.up.take() else { return };
        self.stats.cuts += 1;
        self.link.survivor = self.rng.bool().then_some(conn);
        let now = self.instant();
        self.engine.handle_disconnected(now);
        let after = self.rng.u64(SECOND..20 * SECOND);
        self.after(after, Happening::Connect);
    }

    /// Whether the broker hangs up on this, or had done so before it came.
    pub(super) fn is_hung_up_on(&mut self, conn: u64, parcel: &Parcel) -> bool {
        if self.link.hung_up != Some(conn) {
            if self.plan.rule(self.now, &mut self.rng, parcel.endpoint, true).is_none() {
                return false;
            }
            self.link.hung_up = Some(conn);
            self.after(self.link.latency, Happening::HungUp(conn));
        }
        true
    }

    /// The other side ended the connection.
    pub(super) fn hung_up(&mut self) {
        self.stats.hung_up += 1;
        let now = self.instant();
        self.engine.handle_hang_up(now);
        self.cut();
    }

    /// The process is gone, and all that was not on disk.
    pub(super) fn power_cut(&mut self) {
        self.link.survivor = self.link.up.take().filter(|_| self.rng.bool());
        self.stats.cuts += 1;
        self.count();
        self.process += 1;
        self.air.clear();
        self.asked.clear();
        self.flights.clear();
        self.renewed = None;
        self.shelf.restart();
        self.shelf.carry(self.directory.iter().map(|endpoint| endpoint.key.clone()).collect());
        self.engine = engine(&self.plan, &self.directory, self.now, self.process);
        self.begin_days();
        self.shelf.announcements().into_iter().for_each(|event| self.tell(event));
        let after = self.rng.u64(SECOND..60 * SECOND);
        self.after(after, Happening::Connect);
    }

    pub(super) fn publish(&mut self, part: PartId, frame: &Frame) -> Result<(), String> {
        let Some(conn) = self.link.up else { return Err("a frame without a connection".into()) };
        let parcel = Parcel::read(&self.plan, frame)?;
        let subscribed = self.link.common || self.link.granted.contains(&parcel.token);
        if parcel.id.is_some() && !subscribed && !self.needs_no_filter() {
            return Err(format!("endpoint {} flies before its filter is granted", parcel.endpoint));
        }
        let bytes = frame.path.expose().len() + frame.body.len();
        let (first, sent) = self.flights.entry(part.flight).or_insert_with(|| (conn, BTreeSet::new()));
        if *first != conn {
            return Err("a flight goes on over two connections".into());
        }
        sent.extend(&parcel.samples);
        let (frames, flying) = self.link.air.entry(part).or_default();
        (*frames, *flying) = (*frames + 1, *flying + bytes);
        self.link.sent += 1;
        self.link.sent_bytes += bytes;
        self.link.flying = (self.link.flying.0 + 1, self.link.flying.1 + bytes);
        let (publishes, flying) = self.link.flying;
        if publishes > 256 || flying > (1 << 20) + bytes {
            return Err(format!("{publishes} publishes and {flying} bytes are in the air"));
        }
        // Where replies can be late a request leaves the window without one, 2 s after the broker took it.
        let watched = !self.plan.dialect.replies() || frame.qos == Qos::AtLeastOnce && self.plan.is_prompt();
        let fresh = watched && !self.link.anything_back && self.now < self.link.since + 25 * SECOND;
        if fresh && (self.link.sent > 8 || self.link.sent_bytes > (32 << 10) + bytes) {
            return Err(format!("{} publishes before anything came back", self.link.sent));
        }
        self.check_limits(bytes)?;
        self.spend(bytes)?;
        self.link.free_at = self.link.free_at.max(self.now) + bytes as u64 * SECOND / self.plan.rate;
        if self.plan.stall > 0 && self.rng.u8(..10) == 0 {
            self.link.free_at += self.rng.u64(..self.plan.stall);
        } else if self.plan.rate == 1_000 && self.plan.stall == 0 && self.now > self.link.since + 90 * SECOND
        {
            let backlog = (self.link.free_at - self.now) / SECOND;
            // Late replies come in heaps, which looks like a faster link for a moment.
            let worth = if self.plan.is_prompt() { WORTH } else { 3 * WORTH };
            if backlog > worth + bytes as u64 / self.plan.rate {
                return Err(format!("{backlog} s' worth waits for the wire"));
            }
        }
        self.at(self.link.free_at, Happening::Left(conn, part, parcel, frame.qos));
        Ok(())
    }

    /// No more goes than the operator allows, the last frame left aside.
    fn check_limits(&self, last: usize) -> Result<(), String> {
        // A part of many frames goes as one.
        if self.plan.per_resource {
            return Ok(());
        }
        let limits = &self.plan.pace.limits;
        let allowed = |rate: Option<u32>| {
            rate.map_or(u64::MAX, |rate| {
                u64::from(rate) * (self.now - self.link.since + 200 * MS) / SECOND + 1
            })
        };
        let (messages, bytes) = (self.link.sent as u64 - 1, (self.link.sent_bytes - last) as u64);
        if messages > allowed(limits.messages_per_s) || bytes > allowed(limits.bytes_per_s) {
            return Err(format!("{messages} publishes, {bytes} bytes are over the limits"));
        }
        Ok(())
    }

    pub(super) fn confirmed(&mut self, part: PartId) {
        if let Some((frames, bytes)) = self.link.air.remove(&part) {
            let one = bytes / frames;
            self.link.flying = (self.link.flying.0 - 1, self.link.flying.1 - one);
            if frames > 1 {
                self.link.air.insert(part, (frames - 1, bytes - one));
            }
        }
    }

    pub(super) fn arrived(&mut self, parcel: Parcel, qos: Qos) -> Result<(), String> {
        if parcel.id.is_none() {
            return if qos == Qos::AtLeastOnce { self.process(&parcel) } else { Ok(()) };
        }
        for answer in platform::noise(&self.plan, self.now, &mut self.rng, &parcel) {
            self.after(answer.after, Happening::Answer(answer));
        }
        let calm = self.now >= self.plan.faults_until;
        if !calm && self.rng.u8(..100) < self.plan.forgotten {
            return Ok(());
        }
        let slow = self.plan.kind == Kind::Wild && !calm && self.rng.u8(..30) == 0;
        let takes = if slow { self.rng.u64(..60 * SECOND) } else { self.rng.u64(..100 * MS) };
        let busy = self.platform.busy_until.entry(parcel.endpoint).or_default();
        *busy = (self.now + takes).max(*busy);
        let at = *busy;
        self.at(at, Happening::Process(parcel));
        Ok(())
    }

    pub(super) fn process(&mut self, parcel: &Parcel) -> Result<(), String> {
        let before: Vec<Number> =
            parcel.samples.iter().filter(|n| !self.platform.has.contains(n)).copied().collect();
        let answers = self.platform.process(&self.plan, self.now, &mut self.rng, parcel)?;
        answers.into_iter().for_each(|answer| self.after(answer.after, Happening::Answer(answer)));
        if self.plan.kind == Kind::OneBad && self.plan.bad() != Some(parcel.endpoint) {
            // One refused endpoint stops no other (I4). It takes some connections to know on whom the broker hangs up:
            // each lane of an endpoint is found out by itself, and a pause lasts up to 20 s.
            let patience = if self.plan.hangs_up() { 5 * MINUTE } else { MINUTE };
            for number in before {
                let took = self.now.saturating_sub(self.committed[&number].max(5 * SECOND));
                if took > patience + self.transmission() {
                    return Err(format!(
                        "sample {number:?} of a healthy endpoint took {} s (I4)",
                        took / SECOND
                    ));
                }
            }
        }
        Ok(())
    }

    /// The broker passes an answer on, or keeps it for the next connection.
    pub(super) fn deliver(&mut self, answer: Answer) {
        match self.link.up {
            Some(conn) => self.after(self.link.latency, Happening::Inbound(conn, answer)),
            None => self.link.session.push(answer),
        }
    }

    pub(super) fn subscribe(&mut self, key: u64, filters: &[Path]) -> Result<(), String> {
        let Some(conn) = self.link.up else { return Err("a subscription without a connection".into()) };
        let mut answers = Vec::new();
        for filter in filters {
            let token = filter.expose().split('/').nth(3).unwrap_or_default();
            let token = token.trim_start_matches("tok").parse::<usize>().ok();
            let endpoint = token.map(|token| token % TOKENS);
            let refused =
                self.now < self.plan.faults_until && endpoint.is_some() && endpoint == self.plan.closed;
            answers.push((token, !refused));
        }
        let after = self.link.latency * 2 + self.rng.u64(..SECOND);
        self.after(after, Happening::Subscribed(conn, key, answers));
        Ok(())
    }

    /// The broker says so: from now on, and not before, answers can be counted on.
    pub(super) fn granted(&mut self, answers: &[(Option<usize>, bool)]) -> Vec<bool> {
        for (token, _) in answers.iter().filter(|(_, granted)| *granted) {
            match token {
                Some(token) => self.link.granted.extend([*token]),
                None => self.link.common = true,
            }
        }
        answers.iter().map(|(_, granted)| *granted).collect()
    }

    pub(super) fn unsubscribe(&mut self, key: u64, filters: &[Path]) -> Result<(), String> {
        let Some(conn) = self.link.up else { return Err("an unsubscription without a connection".into()) };
        for filter in filters {
            let token = filter.expose().split('/').nth(3).unwrap_or_default();
            let Ok(token) = token.trim_start_matches("tok").parse::<usize>() else { continue };
            if !self.away.contains(&(token % TOKENS)) && self.tokens.get(token % TOKENS) == Some(&token) {
                return Err(format!("the filter of token {token} is taken back, and it is in use"));
            }
            self.link.granted.remove(&token);
        }
        self.after(self.link.latency * 2, Happening::Unsubscribed(conn, key));
        Ok(())
    }

    pub(super) fn renew(&mut self, why: &str) -> Result<(), String> {
        if self.renewed.is_some_and(|last| self.now - last < 600 * SECOND) {
            return Err(format!("renewed twice within ten minutes: {why}"));
        }
        if self.plan.kind != Kind::Wild && self.plan.mute.is_none() {
            return Err(format!("a healthy session was renewed: {why}"));
        }
        self.renewed = Some(self.now);
        self.cut();
        Ok(())
    }
}
