//! One task per connection: polls its devices one after the other and hands their samples in.
//!
//! Not here: when who is due ([`crate::schedule`]), which requests that takes ([`crate::plan`]), one poll
//! ([`poll`]), and a single request ([`exchange`]).

mod exchange;
mod poll;

use crate::{
    config::Target,
    health::{Complaints, Subject},
    line::{Line, Quarantine},
    link::Link,
    outside::Inquiries,
    outstanding::Outstanding,
    round::{self, Group},
    schedule::{Schedule, Turn},
    tools::Tap,
    wire::{Lookup, Wire},
};
use adapter_api::{
    CancellationToken, Clock, EndpointName, Fault, Instant, Intake, Presence, Refused, Reporter, Sample,
    Span, SubmitError, Urgency,
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
            tracing::debug!(endpoint = %endpoint, "device answers");
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
        let mut last = None;
        let mut refused: u64 = 0;
        let all = async {
            while !self.outstanding.is_empty() {
                let (endpoint, result) = self.outstanding.oldest().await;
                if let Err(why) = result {
                    refused += 1;
                    last = Some((endpoint, why));
                }
            }
        };
        if timeout(GRACE, all).await.is_err() {
            tracing::warn!(wire = %self.wire, "stopped before the store had confirmed all samples");
        }
        if let Some((endpoint, error)) = last {
            tracing::warn!(wire = %self.wire, %endpoint, %error, refused, "last samples were not kept");
        }
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
