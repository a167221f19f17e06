//! The simulation of the uplink: the real engine, outflow, dialects and index of lanes between a store
//! that answers late, a link that breaks and a platform that lies. Tests only, no I/O, no clock.
//!
//! A run is drawn from its seed (`sim/plan.rs`), so that a violation can be repeated. `sim/shelf.rs` is
//! the store, `sim/platform.rs` the platform, `sim/days.rs` the days; this file is the loop, the link and what must
//! hold.

mod days;
mod dialects;
mod link;
mod plan;
mod platform;
mod shelf;
mod tests;

use super::{
    engine::{Engine, Output},
    mqtt,
    outflow::{FlightId, PartId},
};
use crate::{
    backoff::Rng,
    config::secret::EndpointToken,
    dialect::{ForeignPath, Qos},
    endpoints::{Directory, Endpoint, EndpointKey, Tenant},
    store::{Class, Command, Event, LaneId, RowId},
};
use adapter_api::{EndpointName, Instant};
use link::Link;
use plan::{Kind, MINUTE, MS, Plan, SECOND, Us};
use platform::{Answer, Parcel, Platform};
use shelf::{Job, Number, Shelf};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

/// Turns of the loop that end a run: no machine needs so many.
const STEPS: u64 = 400_000;
/// Once nothing goes wrong any more, everything is delivered within this time: parked endpoints are
/// probed each hour.
const DRAIN: Us = 150 * MINUTE;
/// What is still due after so many turns at which it was due stays so: a session would spin.
const TURNS: u32 = 100;

/// Something that must never happen.
#[derive(Debug)]
struct Violation {
    seed: u64,
    at: Us,
    what: String,
}

/// What a run did.
#[derive(Debug, Default, Clone, Copy)]
struct Stats {
    steps: u64,
    stored: u64,
    resent: u64,
    dropped: u64,
    dead: u64,
    stale: u64,
    missed: u64,
    cuts: u64,
    hung_up: u64,
    behind: u64,
    drained: u64,
    edits: u64,
    renamed: u64,
    full_days: u64,
}

enum Happening {
    Commit(usize),
    Work(u32, Job),
    Tell(u32, Event),
    Left(u64, PartId, Parcel, Qos),
    Arrived(u64, PartId, Parcel, Qos),
    Acked(u64, PartId),
    Process(Parcel),
    Answer(Answer),
    Inbound(u64, Answer),
    /// The answers to filters: of which token, or of all, and whether it is granted.
    Subscribed(u64, u64, Vec<(Option<usize>, bool)>),
    Unsubscribed(u64, u64),
    /// The configuration changes.
    Edit,
    Connect,
    /// The broker hung up on what was sent.
    HungUp(u64),
    Cut,
    PowerCut,
    Drop,
    /// The last fault is over.
    Calm,
}

struct World {
    plan: Plan,
    rng: Rng,
    now: Us,
    turn: u64,
    happenings: BTreeMap<(Us, u64), Happening>,
    directory: Arc<Directory>,
    /// The number of each endpoint's token and of its name, and who left the configuration.
    tokens: Vec<usize>,
    names: Vec<usize>,
    away: BTreeSet<usize>,
    engine: Engine,
    process: u32,
    /// When the process started.
    born: Us,
    /// The day, and what was sent in it.
    spent: (i64, u64),
    told_until: Us,
    link: Link,
    shelf: Shelf,
    platform: Platform,
    /// Rows the engine has and has not given back; true once confirmed or buried and not yet taken.
    air: BTreeMap<LaneId, BTreeMap<RowId, bool>>,
    asked: BTreeSet<LaneId>,
    /// What each flight sent, and on which connection.
    flights: HashMap<FlightId, (u64, BTreeSet<Number>)>,
    committed: HashMap<Number, Us>,
    renewed: Option<Us>,
    stats: Stats,
}

/// Runs a seed to its end.
fn run(seed: u64) -> Result<Stats, Violation> {
    let mut world = World::new(Plan::draw(seed));
    match world.turn() {
        Ok(()) => Ok(world.stats),
        Err(what) => Err(Violation { seed, at: world.now, what }),
    }
}

impl World {
    fn new(plan: Plan) -> Self {
        let keys: Vec<EndpointKey> = (0..plan.endpoints).map(key).collect();
        let tokens: Vec<usize> = (0..plan.endpoints).collect();
        let directory = directory(&tokens, &tokens, &BTreeSet::new());
        let mut rng = Rng::with_seed(plan.seed);
        let mut world = Self {
            engine: engine(&plan, &directory, 0, 0),
            shelf: Shelf::new(&plan, &keys),
            plan,
            now: 0,
            turn: 0,
            happenings: BTreeMap::new(),
            directory,
            names: tokens.clone(),
            tokens,
            away: BTreeSet::new(),
            process: 0,
            born: 0,
            spent: (0, 0),
            told_until: 0,
            link: Link::default(),
            platform: Platform::default(),
            air: BTreeMap::new(),
            asked: BTreeSet::new(),
            flights: HashMap::new(),
            committed: HashMap::new(),
            renewed: None,
            stats: Stats::default(),
            rng: rng.fork(),
        };
        world.begin_days();
        world.after(rng.u64(..5 * SECOND), Happening::Connect);
        world.after(world.plan.faults_until, Happening::Calm);
        for lane in 0..world.shelf.infos.len() {
            let mut at = 0;
            // Half of the runs begin with a backlog.
            let first = if rng.bool() { 0 } else { 10 * SECOND };
            for _ in 0..world.plan.commits {
                world.after(first + at, Happening::Commit(lane));
                at += rng.u64(..world.plan.every * 2);
            }
        }
        let means = [world.plan.cut, world.plan.power_cut, world.plan.drops, world.plan.edits];
        for (what, mean) in means.into_iter().enumerate() {
            let Some(mean) = mean else { continue };
            let mut at = rng.u64(..mean * 2);
            while at < world.plan.faults_until {
                world.after(
                    at,
                    [Happening::Cut, Happening::PowerCut, Happening::Drop, Happening::Edit]
                        .into_iter()
                        .nth(what)
                        .unwrap(),
                );
                at += 1 + rng.u64(..mean * 2);
            }
        }
        world
    }

    /// Turns until all is delivered after the last fault.
    fn turn(&mut self) -> Result<(), String> {
        let mut overdue = (None, 0);
        loop {
            self.pump()?;
            let next = self.happenings.first_key_value().map(|(key, _)| key.0);
            let due = self.engine.poll_timeout().map(us);
            if self.now >= self.plan.faults_until && self.shelf.rows.is_empty() && next.is_none() {
                return self.end();
            }
            let at = next.into_iter().chain(due).min().ok_or_else(|| {
                format!("nothing will ever happen again and {} rows are left", self.shelf.rows.len())
            })?;
            if at > self.plan.faults_until + DRAIN + self.transmission() {
                let left: Vec<_> = self.shelf.rows.iter().take(3).map(|(row, n)| (*row, *n)).collect();
                let left: Vec<_> = left.into_iter().map(|(row, n)| (row, n, self.phase(n.0))).collect();
                return Err(format!(
                    "{} rows are not delivered long after the last fault: {left:?}",
                    self.shelf.rows.len()
                ));
            }
            self.now = self.now.max(at);
            self.stats.steps += 1;
            if self.stats.steps > STEPS {
                return Err("it turns without an end".into());
            }
            if due.is_some_and(|due| due <= self.now) {
                overdue = (due, if overdue.0 == due { overdue.1 + 1 } else { 0 });
                if overdue.1 > TURNS {
                    return Err("what is due stays due: the session would turn without a pause".into());
                }
                let now = self.instant();
                self.engine.handle_timeout(now);
            } else if let Some((_, happening)) = self.happenings.pop_first() {
                self.happen(happening)?;
            }
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        let now = self.instant();
        match happening {
            Happening::Commit(lane) => return self.commit(lane),
            Happening::Work(process, job) if process == self.process => return self.work(job),
            Happening::Tell(process, event) if process == self.process => self.told(event),
            Happening::Left(conn, part, parcel, qos) if self.link.up == Some(conn) => {
                if qos == Qos::AtMostOnce {
                    if parcel.id.is_none() {
                        // What the link took counts as delivered.
                        self.link.anything_back = true;
                        self.platform.process(&self.plan, self.now, &mut self.rng, &parcel)?;
                    }
                    self.confirmed(part);
                    self.engine.handle_link(now, mqtt::Event::Written(part));
                }
                self.after(self.link.latency, Happening::Arrived(conn, part, parcel, qos));
            }
            Happening::Arrived(conn, part, parcel, qos)
                if self.link.up == Some(conn) || self.link.survivor == Some(conn) =>
            {
                if self.is_hung_up_on(conn, &parcel) {
                    return Ok(());
                }
                if qos == Qos::AtLeastOnce {
                    self.after(self.link.latency, Happening::Acked(conn, part));
                }
                self.arrived(parcel, qos)?;
            }
            Happening::Acked(conn, part) if self.link.up == Some(conn) => {
                self.confirmed(part);
                self.link.anything_back |= !self.plan.dialect.replies();
                self.engine.handle_link(now, mqtt::Event::Acked(part));
            }
            Happening::Process(parcel) => self.process(&parcel)?,
            Happening::Answer(answer) => self.deliver(answer),
            Happening::Inbound(conn, answer) if self.link.up == Some(conn) => {
                self.link.anything_back = true;
                self.engine
                    .handle_link(now, mqtt::Event::Inbound(ForeignPath::new(answer.path), answer.body));
            }
            // It was under way when the connection went: the broker keeps it, or thinks it arrived.
            Happening::Inbound(_, answer) if self.rng.u8(..4) > 0 => self.deliver(answer),
            Happening::Subscribed(conn, key, answers) if self.link.up == Some(conn) => {
                let granted = self.granted(&answers);
                self.engine.handle_link(now, mqtt::Event::Subscribed(key, granted));
            }
            Happening::Unsubscribed(conn, key) if self.link.up == Some(conn) => {
                self.engine.handle_link(now, mqtt::Event::Unsubscribed(key));
            }
            Happening::Edit => self.edit(),
            Happening::Calm if !self.away.is_empty() => {
                self.away.clear();
                self.direct();
            }
            Happening::Connect if self.link.up.is_none() => self.connect(),
            Happening::HungUp(conn) if self.link.up == Some(conn) => self.hung_up(),
            // By something on the way, or as if the broker had been restarted.
            Happening::Cut if self.link.up.is_some() && self.rng.bool() => self.hung_up(),
            Happening::Cut => self.cut(),
            Happening::PowerCut => self.power_cut(),
            Happening::Drop => {
                let (lane, max) = (self.rng.usize(..self.shelf.infos.len()), self.rng.usize(1..=20));
                self.shelf.drop_oldest(lane, max)?;
                self.shelf.sweep().into_iter().for_each(|event| self.tell(event));
            }
            _ => {}
        }
        Ok(())
    }

    /// An endpoint leaves the configuration, comes back, has another token, or is called otherwise.
    fn edit(&mut self) {
        let endpoint = self.rng.usize(..self.plan.endpoints);
        if self.rng.bool() {
            self.tokens[endpoint] += platform::TOKENS;
        }
        if self.rng.u8(..3) == 0 {
            self.rename(endpoint);
        }
        if !self.away.remove(&endpoint) && self.rng.bool() {
            self.away.insert(endpoint);
        }
        self.direct();
    }

    /// The store has the new name at once, and tells the session of it when that carries it.
    fn rename(&mut self, endpoint: usize) {
        self.stats.renamed += 1;
        let former = key(self.names[endpoint]);
        self.names[endpoint] += platform::TOKENS;
        // What was asked about them is answered to nobody.
        for lane in self.shelf.rename(&former, &key(self.names[endpoint])) {
            self.asked.remove(&lane);
        }
        self.forget_landed();
    }

    fn direct(&mut self) {
        self.stats.edits += 1;
        self.directory = directory(&self.tokens, &self.names, &self.away);
        let now = self.instant();
        self.engine.handle_directory(now, self.directory.clone());
    }

    // === The store ===

    fn commit(&mut self, lane: usize) -> Result<(), String> {
        let lane = self.shelf.intake(lane)?;
        let (count, gap) = (self.rng.usize(1..=self.plan.rows), self.rng.i64(1..5));
        let first = self.shelf.stored_of(lane);
        self.committed.extend((0..count as u64).map(|n| ((lane, first + n), self.now)));
        let event = self.shelf.commit(self.now, lane, count, gap);
        event.into_iter().for_each(|event| self.tell(event));
        Ok(())
    }

    fn work(&mut self, job: Job) -> Result<(), String> {
        let fails = self.now < self.plan.faults_until && self.rng.u8(..100) < self.plan.store_fails;
        if matches!(job, Job::Delete) && fails {
            self.after(SECOND, Happening::Work(self.process, Job::Delete));
            return Ok(());
        }
        let of = match &job {
            Job::Next { lane, .. } | Job::Take { lane, .. } => Some(*lane),
            Job::Release { .. } | Job::Reserve(_) | Job::Delete | Job::Carry(_) => None,
        };
        let carry = matches!(job, Job::Carry(_));
        let event = self.shelf.work(&self.plan, self.now, fails, job)?;
        match event {
            // Nobody is told anything of an endpoint that left.
            Some(_) if of.is_some_and(|lane| !self.shelf.is_carried(lane)) => self.forget_landed(),
            event => event.into_iter().for_each(|event| self.tell(event)),
        }
        if carry {
            self.forget_landed();
            self.shelf.announcements().into_iter().for_each(|event| self.tell(event));
        }
        self.shelf.sweep().into_iter().for_each(|event| self.tell(event));
        if self.shelf.has_gone() && !self.shelf.delete_due {
            self.shelf.delete_due = true;
            let after = self.rng.u64(..SECOND);
            self.after(after, Happening::Work(self.process, Job::Delete));
        }
        Ok(())
    }

    /// Events reach the engine in order.
    fn tell(&mut self, event: Event) {
        self.told_until = self.told_until.max(self.now + self.rng.u64(..2 * MS));
        self.at(self.told_until, Happening::Tell(self.process, event));
    }

    fn told(&mut self, event: Event) {
        match &event {
            Event::Rows { lane, rows, .. } => {
                self.asked.remove(lane);
                self.air.entry(*lane).or_default().extend(rows.iter().map(|row| (row.id, false)));
            }
            Event::Taken(_) => self.forget_landed(),
            Event::Behind(lane) => _ = self.asked.remove(&lane.id),
            Event::Drained(lane) => _ = self.asked.remove(lane),
            Event::Ready(_) | Event::Ids(_) => {}
        }
        let now = self.instant();
        self.engine.handle_store(now, event);
    }

    /// Rows that are off the books.
    fn forget_landed(&mut self) {
        let shelf = &self.shelf;
        self.air.iter_mut().for_each(|(lane, air)| {
            air.retain(|row, landed| !*landed || shelf.is_claimed(*lane, *row));
        });
    }

    fn ask(&mut self, command: Command) -> Result<(), String> {
        let (job, ordered) = match command {
            Command::Next { lane, max_rows, max_bytes, live_age } => {
                self.check_turn(lane)?;
                if !self.asked.insert(lane) {
                    return Err(format!("lane {} was asked for twice", lane.0));
                }
                let air = self.air.entry(lane).or_default();
                if !air.is_empty() {
                    let how = if air.values().all(|landed| *landed) {
                        "its landed rows are on the books"
                    } else {
                        "it flies"
                    };
                    return Err(format!("lane {} was asked for while {how} (I3)", lane.0));
                }
                if max_rows == 0 || max_bytes == 0 {
                    return Err("asked for nothing".into());
                }
                let live_age = live_age.map(|age| u64::try_from(age.as_micros()).unwrap());
                (Job::Next { lane, max_rows, max_bytes, live_age }, true)
            }
            Command::Release { lane, rows } => {
                let air = self.air.entry(lane).or_default();
                if let Some(row) = rows.iter().find(|row| air.remove(row) != Some(false)) {
                    return Err(format!("row {} came back and was not in the air", row.0));
                }
                (Job::Release { lane, rows }, true)
            }
            Command::Landed(landed) => {
                let (conn, sent) = self.flights.get(&landed.flight()).cloned().unwrap_or_default();
                for row in landed.rows() {
                    let number = self.leave(landed.lane().id, *row)?;
                    if self.plan.readings(number.1) == 0 {
                        continue;
                    }
                    if !self.platform.has.contains(&number) {
                        return Err(format!("sample {number:?} landed and the platform never got it (I2)"));
                    }
                    if self.link.up != Some(conn) || !sent.contains(&number) {
                        return Err(format!(
                            "sample {number:?} landed by another flight's confirmation (I2)"
                        ));
                    }
                }
                (
                    Job::Take {
                        lane: landed.lane().id,
                        flight: landed.flight(),
                        rows: landed.rows().to_vec(),
                        dead: false,
                    },
                    false,
                )
            }
            Command::Bury(buried) => {
                let number = self.leave(buried.lane().id, buried.row())?;
                if !(self.platform.refused_alone.contains(&number)
                    || self.plan.is_damaged(number.1)
                    || self.plan.is_huge(number.1))
                {
                    return Err(format!("sample {number:?} was buried and never refused for itself (I4)"));
                }
                (
                    Job::Take {
                        lane: buried.lane().id,
                        flight: buried.flight(),
                        rows: vec![buried.row()],
                        dead: true,
                    },
                    false,
                )
            }
            Command::Reserve { count, .. } => (Job::Reserve(count), true),
            Command::Carry { endpoints, .. } => (Job::Carry(endpoints), true),
            Command::Put { value, .. } => {
                self.shelf.budget = value;
                return Ok(());
            }
            _ => return Err("a question that is not the engine's".into()),
        };
        let after = self.rng.u64(..=self.plan.store_delay);
        let mut at = (self.now + after).max(self.shelf.barrier);
        if ordered {
            at = at.max(self.shelf.busy_until);
            self.shelf.busy_until = at;
        }
        if matches!(job, Job::Carry(_)) {
            // After everything that was said before it, and before everything after it.
            at = at.max(self.shelf.last_job);
            (self.shelf.busy_until, self.shelf.barrier) = (at, at);
        }
        self.shelf.last_job = self.shelf.last_job.max(at);
        self.at(at, Happening::Work(self.process, job));
        Ok(())
    }

    /// An endpoint's backlog lanes fly one at a time, the oldest first.
    fn check_turn(&self, id: LaneId) -> Result<(), String> {
        let lane = self.shelf.index(id);
        let info = &self.shelf.infos[lane];
        if info.class != Class::Backlog {
            return Ok(());
        }
        let others = self.shelf.present().filter(|(other, _)| *other != lane);
        for (other, _) in others.filter(|(_, o)| o.endpoint == info.endpoint && o.class == Class::Backlog) {
            let seq = self.shelf.infos[other].seq;
            let flies =
                self.air.get(&self.shelf.infos[other].id).is_some_and(|a| a.values().any(|landed| !landed));
            // One that was asked for as a live lane may be a backlog by now, and will not fly as one.
            if flies || seq < info.seq && self.shelf.has_waiting(other) {
                return Err(format!("backlog lane {lane} is asked for beside lane {other}"));
            }
        }
        Ok(())
    }

    /// A row leaves by proof: it must be in the air, and each only once.
    fn leave(&mut self, lane: LaneId, row: RowId) -> Result<Number, String> {
        match self.air.entry(lane).or_default().get_mut(&row) {
            Some(landed @ false) => *landed = true,
            _ => return Err(format!("row {} landed or was buried and was not in the air (I2)", row.0)),
        }
        self.shelf.rows.get(&row.0).copied().ok_or_else(|| format!("row {} left twice", row.0))
    }

    // === The loop's own ===

    /// Carries out what the engine wants.
    fn pump(&mut self) -> Result<(), String> {
        let now = self.instant();
        self.engine.handle_day(now, self.today());
        while let Some(output) = self.engine.poll_output(now) {
            match output {
                Output::Store(command) => self.ask(command)?,
                Output::Publish(part, frame) => self.publish(part, &frame)?,
                Output::Subscribe(key, filters) => self.subscribe(key, &filters)?,
                Output::Unsubscribe(key, filters) => self.unsubscribe(key, &filters)?,
                Output::Renew(_, why) => self.renew(why)?,
            }
        }
        Ok(())
    }

    /// Nothing goes wrong any more and all is delivered: what must be true then.
    fn end(&mut self) -> Result<(), String> {
        self.count();
        let (plan, stats) = (&self.plan, &mut self.stats);
        (stats.stored, stats.dropped, stats.dead) =
            (self.shelf.stored, self.shelf.dropped, self.shelf.dead.len() as u64);
        stats.resent = self.platform.resent;
        (stats.behind, stats.drained) = (self.shelf.behind, self.shelf.drained);
        let lanes = self.shelf.infos.len();
        let silent = (0..lanes).flat_map(|lane| (0..self.shelf.stored_of(lane)).map(move |n| (lane, n)));
        let missing = silent.filter(|n| {
            plan.readings(n.1) > 0 && !self.platform.has.contains(n) && !self.shelf.dead.contains(n)
        });
        let missing = missing.count() as u64;
        if missing > stats.dropped {
            return Err(format!("{missing} samples are missing, {} were dropped", stats.dropped));
        }
        if plan.kind == Kind::AllRefused && stats.dead > 0 {
            return Err(format!("{} samples were buried while everything was refused", stats.dead));
        }
        if plan.kind == Kind::Poison {
            let own = |n: &Number| plan.is_poison(self.now, *n) || plan.is_damaged(n.1) || plan.is_huge(n.1);
            let wanted = (0..lanes)
                .flat_map(|lane| (0..self.shelf.stored_of(lane)).map(move |n| (lane, n)))
                .filter(own)
                .count();
            if wanted as u64 != stats.dead || !self.shelf.dead.iter().all(own) {
                return Err(format!("{} samples are dead, {wanted} should be", stats.dead));
            }
        }
        if plan.kind == Kind::Slow && (stats.resent > 0 || stats.missed > 0) {
            return Err(format!(
                "{} samples were sent again on a healthy link, {} replies missed",
                stats.resent, stats.missed
            ));
        }
        let (held, requests, timers) = self.engine.sizes();
        if held > 0 || self.engine.outflow().air() != super::window::Size::default() {
            return Err(format!(
                "{held} flights and questions, {:?} in the air at the end",
                self.engine.outflow().air()
            ));
        }
        if requests > 4_096 || timers > 4 * (lanes + plan.endpoints) {
            return Err(format!("{requests} requests and {timers} timers are kept at the end"));
        }
        Ok(())
    }

    fn count(&mut self) {
        let counts = self.engine.counts();
        self.stats.stale += counts.stale_replies;
        self.stats.missed += counts.missed;
    }

    fn needs_no_filter(&self) -> bool {
        match &self.plan.dialect {
            crate::dialect::Dialect::Kaa(kaa) => kaa.config.subscribe == crate::dialect::kaa::Subscribe::None,
            crate::dialect::Dialect::Plain(_) => true,
        }
    }

    /// How long all rows take on the link at least, and in days of so many bytes at most.
    fn transmission(&self) -> Us {
        let bytes = self.shelf.stored * 2_000;
        bytes * SECOND / self.plan.rate + self.plan.days.as_ref().map_or(0, |days| days.transmission(bytes))
    }

    fn phase(&mut self, lane: usize) -> &'static str {
        let id = self.shelf.infos[lane].id;
        self.engine.outflow().phase_of(id)
    }

    fn at(&mut self, at: Us, happening: Happening) {
        self.turn += 1;
        self.happenings.insert((at.max(self.now), self.turn), happening);
    }

    fn after(&mut self, after: Us, happening: Happening) {
        self.at(self.now + after, happening);
    }

    fn instant(&self) -> Instant {
        Instant::from_start(Duration::from_micros(self.now))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at / MS;
        write!(f, "seed {} at {}.{:03} s: {}", self.seed, at / 1_000, at % 1_000, self.what)
    }
}

fn key(name: usize) -> EndpointKey {
    EndpointKey { tenant: Tenant::default(), name: EndpointName::new(&format!("e{name}")).unwrap() }
}

fn directory(tokens: &[usize], names: &[usize], away: &BTreeSet<usize>) -> Arc<Directory> {
    let there = tokens.iter().zip(names).enumerate().filter(|(e, _)| !away.contains(e));
    Arc::new(Directory::new(there.map(|(_, (token, name))| Endpoint {
        key: key(*name),
        token: EndpointToken::new(&format!("tok{token}")),
        enabled: true,
        quotas: Default::default(),
        report: None,
        unit: None,
        name_on_wire: BTreeMap::new(),
    })))
}

fn engine(plan: &Plan, directory: &Arc<Directory>, now: Us, process: u32) -> Engine {
    let rng = Rng::with_seed(plan.seed ^ u64::from(process) << 32);
    let now = Instant::from_start(Duration::from_micros(now));
    Engine::new(
        now,
        crate::dialect::SessionKey(None),
        plan.dialect.clone(),
        directory.clone(),
        plan.max_payload,
        plan.pace.clone(),
        rng,
    )
}

/// Rounded up, so that what is due then is due.
fn us(at: Instant) -> Us {
    let since = at.since(Instant::from_start(Duration::ZERO));
    u64::try_from(since.as_nanos().div_ceil(1_000)).unwrap_or(Us::MAX)
}
