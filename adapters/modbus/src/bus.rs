//! One task per connection: polls its devices one after the other and hands their samples in.
//!
//! Not here: when who is due ([`crate::schedule`]), which requests that takes ([`crate::plan`]), and a
//! single request ([`exchange`]).

mod exchange;

use crate::{
    config::Target,
    health::{Complaints, Subject},
    line::{Line, Quarantine},
    link::{Link, Trouble},
    outside::{Inquiries, Unheard},
    outstanding::Outstanding,
    round::{self, Group, Missing, Round},
    schedule::{Schedule, Turn},
    tools::Tap,
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
    /// Where frames are shown.
    pub(crate) tap: Tap,
}

/// Runs until the shutdown, or until the sender of its targets is dropped.
pub(crate) async fn run(
    shared: Arc<Shared>,
    (wire, connection): (Wire, u16),
    targets: watch::Receiver<Arc<Targets>>,
    inquiries: Inquiries,
) {
    let mut bus = Bus {
        shared,
        name: wire.to_string(),
        wire,
        connection,
        targets,
        devices: BTreeMap::new(),
        schedule: Schedule::default(),
        link: None,
        opened: false,
        attempts: 0,
        down: None,
        inquiries,
        outstanding: Outstanding::default(),
        lookup: Lookup::default(),
        quarantine: Quarantine::default(),
        ended: now(),
        took: Duration::ZERO,
    };
    bus.adopt();
    while bus.turn().await.is_continue() {}
    bus.drain().await;
    bus.shared.report.forget_wire(&bus.name);
}

struct Bus {
    shared: Arc<Shared>,
    wire: Wire,
    /// The wire's, for people.
    name: String,
    connection: u16,
    targets: watch::Receiver<Arc<Targets>>,
    devices: BTreeMap<EndpointName, Polled>,
    schedule: Schedule,
    link: Option<Link>,
    /// It has been open before.
    opened: bool,
    /// Failed attempts to connect, in a row.
    attempts: u32,
    /// Until when there is no further one, and what the last one failed of.
    down: Option<(Instant, Fault)>,
    inquiries: Inquiries,
    outstanding: Outstanding,
    lookup: Lookup,
    quarantine: Quarantine,
    /// When the last exchange ended, and what it took.
    ended: Instant,
    took: Duration,
}

/// A device and how it is read.
struct Polled {
    target: Arc<Target>,
    groups: Vec<Group>,
    /// What was last reported.
    presence: Option<Presence>,
    /// Its answers so far.
    answers: u64,
    /// It was away for long enough for another one to be in its place.
    away: bool,
}

/// What a poll of a group brought.
struct Poll {
    readings: Vec<Reading>,
    missing: Option<Missing>,
    /// What ended it before all was read.
    trouble: Option<Trouble>,
    /// Something was asked for it.
    asked: bool,
}

/// What a bus does next.
enum Work {
    Inquiry,
    Poll(Turn),
}

impl Bus {
    async fn turn(&mut self) -> ControlFlow<()> {
        let full = self.shared.intake.is_full();
        let room = self.outstanding.has_room() && !full;
        let due = if room { self.due() } else { None };
        let inquiry = if self.admits_outside(room) { self.inquiry_at() } else { None };
        let shutdown = self.shared.shutdown.clone();
        // All arms are cancel-safe: the last two only wait, their work is done below.
        let work = tokio::select! {
            biased;
            () = self.shared.shutdown.cancelled() => return ControlFlow::Break(()),
            changed = self.targets.changed() => match changed {
                Ok(()) => { self.adopt(); None }
                Err(_) => return ControlFlow::Break(()),
            },
            (endpoint, result) = self.outstanding.oldest() => { self.settle(endpoint, result); None }
            // Polling is suspended, or goes on.
            () = self.shared.intake.until_full(!full) => None,
            () = self.inquiries.arrive() => None,
            () = until(inquiry) => Some(Work::Inquiry),
            () = until(due) => self.schedule.poll_turn(now()).map(Work::Poll),
        };
        let Some(work) = work else { return ControlFlow::Continue(()) };
        let work = async {
            match work {
                Work::Inquiry => self.inquire().await,
                Work::Poll(turn) => self.poll(&turn).await,
            }
        };
        tokio::select! {
            biased;
            () = work => ControlFlow::Continue(()),
            // Given up in the middle; the connection goes down with us.
            () = grace(shutdown) => ControlFlow::Break(()),
        }
    }

    /// When there is something to poll, and a connection or a new attempt at one.
    fn due(&self) -> Option<Instant> {
        let due = self.schedule.poll_timeout()?;
        Some(self.down.as_ref().map_or(due, |(until, _)| due.max(*until)))
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
            let groups = round::groups(target);
            let periods: Vec<Duration> = groups.keys().copied().collect();
            self.schedule.handle_device(now(), endpoint, &periods);
            if let Some(until) = self.quarantine.until(target.unit, now()) {
                self.schedule.hold(endpoint, until);
            }
            let limits = target.manner.limits;
            let groups = groups.into_iter().map(|(period, wanted)| {
                let choice = target.sunspec.clone().filter(|choice| choice.period == period);
                Group::new(wanted, limits, choice)
            });
            let groups = groups.collect();
            let polled = Polled { target: target.clone(), groups, presence, answers: 0, away: false };
            self.devices.insert(endpoint.clone(), polled);
        }
    }

    /// One poll of a group. Requests from outside go between its own. `None` where it is to begin anew.
    async fn read(&mut self, turn: &Turn) -> Result<Option<Poll>, Unheard> {
        let mut round = Round::default();
        loop {
            let Some(device) = self.devices.get_mut(&turn.endpoint) else { return Ok(None) };
            let others = device.groups.iter().enumerate().filter(|(n, _)| *n != turn.group);
            let elsewhere = others.into_iter().any(|(_, group)| !group.is_all_parked(now()));
            let Some(group) = device.groups.get_mut(turn.group) else { return Ok(None) };
            let Some(request) = group.poll_request(now(), &mut round, elsewhere) else {
                return Ok(Some(Poll::of(round, None)));
            };
            let target = device.target.clone();
            if round.has_begun() && self.schedule.admits_outside(now()) {
                self.inquire().await;
                // It was for this very unit, which owes an answer now: the poll begins anew when it is over.
                if self.quarantine.until(target.unit, now()).is_some() {
                    return Ok(None);
                }
            }
            let answer = self.exchange(&target.manner.line, target.unit, request).await;
            if let Err(Unheard::Device(trouble)) = &answer
                && self.is_passed_over(turn, &round, trouble)
            {
                return Ok(None);
            }
            let Some(device) = self.devices.get_mut(&turn.endpoint) else { return Ok(None) };
            let Some(group) = device.groups.get_mut(turn.group) else { return Ok(None) };
            match answer {
                Ok(answer) => {
                    device.answers += 1;
                    group.handle_answer(now(), &mut round, &answer);
                }
                Err(Unheard::Device(trouble)) => {
                    // Noise may be anybody's.
                    let own = matches!(trouble, Trouble::Silent(_) | Trouble::Lost | Trouble::Closed);
                    let why = trouble.fault(String::new()).what;
                    if group.handle_silence(now(), &mut round, own.then_some(device.answers), &why) {
                        return Ok(Some(Poll::of(round, Some(trouble))));
                    }
                    return Err(Unheard::Device(trouble));
                }
                Err(unheard) => return Err(unheard),
            }
        }
    }

    /// Whether a silence is only that of registers a device does not have. It costs it no less.
    fn is_passed_over(&mut self, turn: &Turn, round: &Round, trouble: &Trouble) -> bool {
        let group = self.devices.get_mut(&turn.endpoint).and_then(|d| d.groups.get_mut(turn.group));
        let passed = trouble.may_be_of_registers() && group.is_some_and(|g| g.pass_over(now(), round));
        if passed {
            self.schedule.handle_silence(now(), turn, self.took, false);
        }
        passed
    }

    async fn poll(&mut self, turn: &Turn) {
        match self.read(turn).await {
            Ok(None) | Err(Unheard::Wire(_) | Unheard::NoTurn | Unheard::Closed) => {}
            Ok(Some(Poll { readings, missing, trouble, asked })) => {
                let at = self.shared.clock.stamp();
                let place = self.place(&turn.endpoint);
                let fault = match &trouble {
                    Some(trouble) => Some(trouble.fault(place)),
                    None => missing.map(|missing| missing.fault(place)),
                };
                let subject = Subject::Registers(turn.endpoint.clone(), turn.group);
                self.shared.complaints.settle(subject, fault);
                match trouble {
                    Some(trouble) => self.fall_silent(turn, &trouble),
                    None if asked => self.schedule.handle_answer(turn),
                    None => self.schedule.handle_nothing(turn),
                }
                if asked {
                    let device = self.devices.get_mut(&turn.endpoint);
                    device.into_iter().flat_map(|d| &mut d.groups).for_each(Group::handle_presence);
                    self.present(&turn.endpoint, Presence::Online);
                }
                self.submit(&turn.endpoint, Sample { at, readings }).await;
            }
            Err(Unheard::Device(trouble)) => {
                self.fall_silent(turn, &trouble);
                let fault = trouble.fault(self.place(&turn.endpoint));
                self.present(&turn.endpoint, Presence::Offline(fault));
            }
        }
    }

    fn fall_silent(&mut self, turn: &Turn, trouble: &Trouble) {
        let garbled = matches!(trouble, Trouble::Noise(_));
        self.schedule.handle_silence(now(), turn, self.took, garbled);
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
        if presence != Presence::Online {
            device.groups.iter_mut().for_each(Group::forget);
        }
        match presence {
            // What came back may not be what went away: a swapped device may have what the old one lacked.
            Presence::Online if std::mem::take(&mut device.away) => {
                device.groups.iter_mut().for_each(|group| group.join());
            }
            Presence::Offline(_) => device.away |= self.attempts > 0 || self.schedule.is_away(endpoint),
            _ => {}
        }
        if device.presence.as_ref() == Some(&presence) {
            return;
        }
        if presence == Presence::Online {
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

impl Poll {
    fn of(round: Round, trouble: Option<Trouble>) -> Self {
        let asked = round.has_begun();
        let (readings, missing) = round.finish();
        Self { readings, missing, trouble, asked }
    }
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
