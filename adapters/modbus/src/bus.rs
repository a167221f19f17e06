//! One task per connection: polls its devices one after the other and hands their samples in.
//!
//! Not here: when who is due ([`crate::schedule`]) and which requests that takes ([`crate::plan`]).

use crate::{
    config::{Target, Wanted},
    fault::Refusal,
    health::{Complaints, Subject},
    line::{Line, Quarantine},
    link::{Link, Trouble},
    outstanding::Outstanding,
    pdu::Answer,
    plan::{Block, Plan},
    point::Point,
    schedule::{Schedule, Turn},
    wire::{Lookup, Wire},
};
use adapter_api::{
    CancellationToken, Clock, EndpointName, Fault, Instant, Intake, Presence, Reading, Refused, Reporter,
    Sample, Span, SubmitError, Urgency,
    clock::{now, sleep, sleep_until, timeout},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// After the shutdown was asked for: so long for the request in the wire, and so long again for the
/// receipts. Together below the 2 s an adapter has.
const GRACE: Duration = Duration::from_millis(700);
/// Between attempts to connect.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const SLOWEST_RETRY: Duration = Duration::from_secs(30);
/// Halvings of refused requests in one poll: enough to find one missing register among 125, too
/// few for a device that refuses everything to hold up the others. The next poll goes on.
const SPLITS_PER_POLL: u32 = 8;

/// The devices of one connection.
pub(crate) type Targets = BTreeMap<EndpointName, Arc<Target>>;

/// What all connections of an adapter share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) line: Line,
    pub(crate) connect_timeout: Span,
    pub(crate) intake: Intake,
    pub(crate) report: Reporter,
    pub(crate) clock: Clock,
    pub(crate) shutdown: CancellationToken,
    pub(crate) complaints: Complaints,
}

/// Runs until the shutdown, or until the sender of its targets is dropped.
pub(crate) async fn run(shared: Arc<Shared>, wire: Wire, targets: watch::Receiver<Arc<Targets>>) {
    let mut bus = Bus {
        shared,
        wire,
        targets,
        devices: BTreeMap::new(),
        schedule: Schedule::default(),
        link: None,
        attempts: 0,
        retry_at: None,
        outstanding: Outstanding::default(),
        lookup: Lookup::default(),
        quarantine: Quarantine::default(),
    };
    bus.adopt();
    while bus.turn().await.is_continue() {}
    bus.drain().await;
}

struct Bus {
    shared: Arc<Shared>,
    wire: Wire,
    targets: watch::Receiver<Arc<Targets>>,
    devices: BTreeMap<EndpointName, Polled>,
    schedule: Schedule,
    link: Option<Link>,
    /// Failed attempts to connect, in a row.
    attempts: u32,
    retry_at: Option<Instant>,
    outstanding: Outstanding,
    lookup: Lookup,
    quarantine: Quarantine,
}

/// A device and how it is read.
struct Polled {
    target: Arc<Target>,
    groups: Vec<Group>,
    /// What was last reported.
    presence: Option<Presence>,
}

/// The resources of a device with one period.
struct Group {
    wanted: Vec<Wanted>,
    plan: Plan,
}

impl Bus {
    async fn turn(&mut self) -> ControlFlow<()> {
        let due = self.schedule.poll_timeout().map(|due| self.retry_at.map_or(due, |retry| due.max(retry)));
        let full = self.shared.intake.is_full();
        let room = self.outstanding.has_room() && !full;
        // All arms are cancel-safe: the last one only waits, its work is done below.
        tokio::select! {
            biased;
            () = self.shared.shutdown.cancelled() => return ControlFlow::Break(()),
            changed = self.targets.changed() => match changed {
                Ok(()) => self.adopt(),
                Err(_) => return ControlFlow::Break(()),
            },
            (endpoint, result) = self.outstanding.oldest() => self.settle(endpoint, result),
            // Polling is suspended, or goes on.
            () = self.shared.intake.until_full(!full) => {}
            () = until(due), if room => {
                let Some(turn) = self.schedule.poll_turn(now()) else { return ControlFlow::Continue(()) };
                let shutdown = self.shared.shutdown.clone();
                tokio::select! {
                    biased;
                    () = self.poll(&turn) => {}
                    // Given up in the middle; the connection goes down with us.
                    () = grace(shutdown) => return ControlFlow::Break(()),
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes over what changed in the configuration. Devices that did not change keep their timetable.
    fn adopt(&mut self) {
        let targets = Arc::clone(&self.targets.borrow_and_update());
        let gone: BTreeSet<_> =
            self.devices.keys().filter(|name| !targets.contains_key(*name)).cloned().collect();
        for endpoint in gone {
            self.devices.remove(&endpoint);
            self.schedule.handle_removal(&endpoint);
        }
        for (endpoint, target) in targets.iter() {
            let known = self.devices.get(endpoint);
            if known.is_some_and(|polled| polled.target == *target) {
                continue;
            }
            let presence = known.and_then(|polled| polled.presence.clone());
            let other = |subject: &Subject| !matches!(subject, Subject::Registers(of, _) if of == endpoint);
            self.shared.complaints.retain(other);
            let groups = groups(target);
            let periods: Vec<Duration> = groups.keys().copied().collect();
            self.schedule.handle_device(now(), endpoint, &periods);
            if let Some(until) = self.quarantine.until(target.unit, now()) {
                self.schedule.hold(endpoint, until);
            }
            let groups = groups.into_values().map(Group::new).collect();
            self.devices.insert(endpoint.clone(), Polled { target: target.clone(), groups, presence });
        }
    }

    async fn poll(&mut self, turn: &Turn) {
        let started = now();
        let mut again = true;
        let result = loop {
            let Some(mut link) = self.connected().await else { return };
            let Some(device) = self.devices.get_mut(&turn.endpoint) else { return };
            let (proven, unit) = (link.proven, device.target.unit);
            let result = device.read(&mut link, turn.group, &self.shared.line).await;
            // A device may close a connection that was idle for long: that is not its silence.
            if proven && again && result == Err(Trouble::Lost) {
                again = false;
                continue;
            }
            if matches!(result, Err(Trouble::Silent(_) | Trouble::Noise(_) | Trouble::Unechoed(_))) {
                self.leave_alone(unit);
            }
            if result.as_ref().err().is_none_or(|trouble| link.survives(&self.shared.line, trouble)) {
                self.link = Some(link);
            }
            break result;
        };
        match result {
            Ok((readings, refusal)) => {
                let at = self.shared.clock.stamp();
                let refused = refusal.map(|refusal| refusal.fault(self.place(&turn.endpoint)));
                let subject = Subject::Registers(turn.endpoint.clone(), turn.group);
                self.shared.complaints.settle(subject, refused);
                self.schedule.handle_answer(now(), turn);
                self.present(&turn.endpoint, Presence::Online);
                self.submit(&turn.endpoint, Sample { at, readings }).await;
            }
            Err(trouble) => {
                let ended = now();
                self.schedule.handle_silence(ended, turn, ended.since(started));
                let fault = trouble.fault(self.place(&turn.endpoint));
                self.present(&turn.endpoint, Presence::Offline(fault));
            }
        }
    }

    /// A unit that may still answer: none of its registers is asked for until it cannot any more.
    fn leave_alone(&mut self, unit: u8) {
        let line = &self.shared.line;
        if line.needs_quarantine() {
            let until = now() + line.quarantine;
            self.quarantine.begin(unit, until);
            for (endpoint, _) in self.devices.iter().filter(|(_, device)| device.target.unit == unit) {
                self.schedule.hold(endpoint, until);
            }
        }
    }

    /// Takes the connection, opened if there is none. It is put back only after a clean answer.
    async fn connected(&mut self) -> Option<Link> {
        if let Some(link) = self.link.take() {
            return Some(link);
        }
        let opened = {
            let Shared { line, connect_timeout, .. } = &*self.shared;
            Link::open(&self.wire, line, *connect_timeout, &mut self.lookup).await
        };
        let subject = Subject::Link(self.wire.clone());
        match opened {
            Ok(link) => {
                if std::mem::take(&mut self.attempts) > 0 {
                    self.schedule.handle_return();
                }
                self.retry_at = None;
                self.shared.complaints.clear(&subject);
                Some(link)
            }
            Err(fault) => {
                self.attempts = self.attempts.saturating_add(1);
                let doubled = FIRST_RETRY.saturating_mul(1 << (self.attempts - 1).min(8));
                // Jitter between 80 and 120 %, so that gateways do not knock in step after a power cut.
                let wait = doubled.min(SLOWEST_RETRY).mul_f64(0.8 + 0.4 * fastrand::f64());
                self.retry_at = Some(now() + wait);
                if self.targets.has_changed().is_ok() {
                    self.shared.complaints.raise(subject, fault.clone());
                }
                let endpoints: Vec<_> = self.devices.keys().cloned().collect();
                for endpoint in endpoints {
                    self.present(&endpoint, Presence::Offline(fault.clone()));
                }
                None
            }
        }
    }

    /// Reports a device's presence where it changed.
    fn present(&mut self, endpoint: &EndpointName, presence: Presence) {
        // It may have left the configuration while it was being read.
        let configured = self.targets.has_changed().is_ok() && self.targets.borrow().contains_key(endpoint);
        let Some(device) = self.devices.get_mut(endpoint).filter(|_| configured) else { return };
        let subject = Subject::Device(endpoint.clone());
        match &presence {
            Presence::Offline(fault) if self.attempts == 0 => {
                self.shared.complaints.raise(subject, fault.clone());
            }
            // While there is no connection, the host is the one to complain about.
            _ => self.shared.complaints.clear(&subject),
        }
        if device.presence.as_ref() == Some(&presence) {
            return;
        }
        if presence == Presence::Online {
            // What came back may not be what went away: a swapped device may have what the old one lacked.
            if matches!(device.presence, Some(Presence::Offline(_))) {
                device.groups.iter_mut().for_each(|group| group.plan.join());
            }
            tracing::info!(endpoint = %endpoint, "device answers");
        }
        self.shared.report.presence(endpoint, presence.clone());
        device.presence = Some(presence);
    }

    async fn submit(&mut self, endpoint: &EndpointName, sample: Sample) {
        let urgency = if self.outstanding.is_nearly_full() { Urgency::Urgent } else { Urgency::Relaxed };
        match self.shared.intake.submit(endpoint, vec![sample], urgency).await {
            Ok(receipt) => self.outstanding.add(endpoint.clone(), receipt),
            // Nothing to keep: a device without resources is not read.
            Err(SubmitError::Empty) => {}
            Err(error @ (SubmitError::TooLarge { .. } | SubmitError::Closed)) => {
                self.store_complains(endpoint, Fault::new(&error, error.to_string(), self.place(endpoint)));
            }
        }
    }

    fn settle(&mut self, endpoint: EndpointName, result: Result<(), Refused>) {
        match result {
            Ok(()) => self.shared.complaints.clear(&Subject::Store(endpoint)),
            // Told by the store, once for all of them: here it would come and go with each poll.
            Err(Refused::OverQuota(_)) => {}
            Err(refused) => {
                let fault = Fault::new(refused, refused.to_string(), self.place(&endpoint));
                self.store_complains(&endpoint, fault);
            }
        }
    }

    fn store_complains(&self, endpoint: &EndpointName, fault: Fault) {
        if self.targets.borrow().contains_key(endpoint) {
            self.shared.complaints.raise(Subject::Store(endpoint.clone()), fault);
        }
    }

    /// A device as people find it.
    fn place(&self, endpoint: &EndpointName) -> String {
        match self.devices.get(endpoint) {
            Some(device) => format!("endpoint {endpoint}: unit {} at {}", device.target.unit, self.wire),
            None => format!("endpoint {endpoint} at {}", self.wire),
        }
    }

    async fn drain(&mut self) {
        let all = async {
            while !self.outstanding.is_empty() {
                let (endpoint, result) = self.outstanding.oldest().await;
                if let Err(refused) = result {
                    tracing::warn!(endpoint = %endpoint, error = %refused, "last sample not kept");
                }
            }
        };
        if timeout(GRACE, all).await.is_err() {
            tracing::warn!(wire = %self.wire, "stopped before the store had confirmed all samples");
        }
    }
}

impl Polled {
    /// One poll of a group, and what of it the device refuses.
    async fn read(
        &mut self,
        link: &mut Link,
        group: usize,
        line: &Line,
    ) -> Result<(Vec<Reading>, Option<Refusal>), Trouble> {
        let Some(group) = self.groups.get_mut(group) else { return Ok((Vec::new(), None)) };
        let mut refusal: Option<Refusal> = None;
        let mut readings: Vec<Option<Reading>> = vec![None; group.wanted.len()];
        let (mut at, mut splits) = (0, SPLITS_PER_POLL);
        while let Some(block) = group.plan.block(at) {
            let answer = link.ask(line, self.target.unit, block.request()).await?;
            if let Answer::Refused(code) = answer
                && code.is_about_addresses()
                && splits > 0
                && group.plan.split(at)
            {
                splits -= 1;
                continue;
            }
            if let Some(block) = group.plan.block(at) {
                group.take(block, &answer, &mut readings);
                if let Answer::Refused(code) = answer {
                    let point = Point { table: block.table, address: block.start };
                    refusal.get_or_insert(Refusal { point, code, values: 0 }).values += block.wants.len();
                }
            }
            at += 1;
        }
        Ok((readings.into_iter().flatten().collect(), refusal))
    }
}

impl Group {
    fn new(wanted: Vec<Wanted>) -> Self {
        let plan = Plan::new(wanted.iter().map(|wanted| wanted.want).collect());
        Self { wanted, plan }
    }

    /// Puts what an answer says in its places.
    fn take(&self, block: &Block, answer: &Answer, readings: &mut [Option<Reading>]) {
        for index in &block.wants {
            let (Some(wanted), Some(place)) = (self.wanted.get(*index), readings.get_mut(*index)) else {
                continue;
            };
            let resource = wanted.resource.clone();
            let from = usize::from(wanted.want.start.saturating_sub(block.start));
            *place = match answer {
                Answer::Bits(bits) => bits.get(from).map(|bit| Reading::measured(resource, *bit)),
                Answer::Words(words) => {
                    words.get(from..).and_then(|words| wanted.form.decode(resource, words))
                }
                Answer::Refused(code) => Some(Reading::bad(resource, code.to_string())),
                // A block asks for entries of its table.
                Answer::Identity(_) => None,
            };
        }
    }
}

fn groups(target: &Target) -> BTreeMap<Duration, Vec<Wanted>> {
    let mut groups: BTreeMap<Duration, Vec<Wanted>> = BTreeMap::new();
    for wanted in &target.resources {
        groups.entry(wanted.period).or_default().push(wanted.clone());
    }
    groups
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn grace(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    sleep(GRACE).await;
}
