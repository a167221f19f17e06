//! One task per connection: polls its devices one after the other and hands their samples in.
//!
//! Not here: when who is due ([`crate::schedule`]) and which requests that takes ([`crate::plan`]).

use crate::{
    config::{Host, Target, Wanted},
    health::{Complaints, Subject},
    link::{self, Answer, Link, Lookup, Trouble},
    outstanding::Outstanding,
    plan::{Block, Plan},
    schedule::{Schedule, Turn},
};
use adapter_api::{
    CancellationToken, Clock, EndpointName, Instant, Intake, Presence, Reading, Refused, Reporter, Sample,
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
    pub(crate) timeout: Span,
    pub(crate) connect_timeout: Span,
    pub(crate) intake: Intake,
    pub(crate) report: Reporter,
    pub(crate) clock: Clock,
    pub(crate) shutdown: CancellationToken,
    pub(crate) complaints: Complaints,
}

/// Runs until the shutdown, or until the sender of its targets is dropped.
pub(crate) async fn run(shared: Arc<Shared>, host: Host, targets: watch::Receiver<Arc<Targets>>) {
    let mut bus = Bus {
        shared,
        host,
        targets,
        devices: BTreeMap::new(),
        schedule: Schedule::default(),
        link: None,
        attempts: 0,
        retry_at: None,
        outstanding: Outstanding::default(),
        lookup: Lookup::default(),
    };
    bus.adopt();
    while bus.turn().await.is_continue() {}
    bus.drain().await;
}

struct Bus {
    shared: Arc<Shared>,
    host: Host,
    targets: watch::Receiver<Arc<Targets>>,
    devices: BTreeMap<EndpointName, Polled>,
    schedule: Schedule,
    link: Option<Link>,
    /// Failed attempts to connect, in a row.
    attempts: u32,
    retry_at: Option<Instant>,
    outstanding: Outstanding,
    lookup: Lookup,
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
            let groups = groups(target);
            let periods: Vec<Duration> = groups.keys().copied().collect();
            self.schedule.handle_device(now(), endpoint, &periods);
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
            let proven = link.proven;
            let result = device.read(&mut link, turn.group, self.shared.timeout).await;
            // A device may close a connection that was idle for long: that is not its silence.
            if proven && again && result == Err(Trouble::Lost) {
                again = false;
                continue;
            }
            if result.as_ref().err().is_none_or(Trouble::leaves_link) {
                self.link = Some(link);
            }
            break result;
        };
        match result {
            Ok(readings) => {
                let at = self.shared.clock.stamp();
                self.schedule.handle_answer(now(), turn);
                self.present(&turn.endpoint, Presence::Online);
                self.submit(&turn.endpoint, Sample { at, readings }).await;
            }
            Err(trouble) => {
                let ended = now();
                self.schedule.handle_silence(ended, turn, ended.since(started));
                self.present(&turn.endpoint, Presence::Offline(trouble.to_string()));
            }
        }
    }

    /// Takes the connection, opened if there is none. It is put back only after a clean answer.
    async fn connected(&mut self) -> Option<Link> {
        if let Some(link) = self.link.take() {
            return Some(link);
        }
        let opened = Link::open(&self.host, self.shared.connect_timeout, &mut self.lookup).await;
        let subject = Subject::Link(self.host.clone());
        match opened {
            Ok(link) => {
                if std::mem::take(&mut self.attempts) > 0 {
                    self.schedule.handle_return();
                }
                self.retry_at = None;
                self.shared.complaints.clear(&subject);
                Some(link)
            }
            Err(why) => {
                self.attempts = self.attempts.saturating_add(1);
                let doubled = FIRST_RETRY.saturating_mul(1 << (self.attempts - 1).min(8));
                // Jitter between 80 and 120 %, so that gateways do not knock in step after a power cut.
                let wait = doubled.min(SLOWEST_RETRY).mul_f64(0.8 + 0.4 * fastrand::f64());
                self.retry_at = Some(now() + wait);
                if self.targets.has_changed().is_ok() {
                    self.shared.complaints.raise(subject, &why);
                }
                let endpoints: Vec<_> = self.devices.keys().cloned().collect();
                for endpoint in endpoints {
                    self.present(&endpoint, Presence::Offline(format!("{}: {why}", self.host)));
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
            Presence::Offline(why) if self.attempts == 0 => self.shared.complaints.raise(subject, why),
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
                self.store_complains(endpoint, &error.to_string());
            }
        }
    }

    fn settle(&mut self, endpoint: EndpointName, result: Result<(), Refused>) {
        match result {
            Ok(()) => self.shared.complaints.clear(&Subject::Store(endpoint)),
            // Told by the store, once for all of them: here it would come and go with each poll.
            Err(Refused::OverQuota(_)) => {}
            Err(refused) => self.store_complains(&endpoint, &refused.to_string()),
        }
    }

    fn store_complains(&self, endpoint: &EndpointName, why: &str) {
        if self.targets.borrow().contains_key(endpoint) {
            self.shared.complaints.raise(Subject::Store(endpoint.clone()), why);
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
            tracing::warn!(host = %self.host, "stopped before the store had confirmed all samples");
        }
    }
}

impl Polled {
    async fn read(&mut self, link: &mut Link, group: usize, within: Span) -> Result<Vec<Reading>, Trouble> {
        let Some(group) = self.groups.get_mut(group) else { return Ok(Vec::new()) };
        let mut readings: Vec<Option<Reading>> = vec![None; group.wanted.len()];
        let (mut at, mut splits) = (0, SPLITS_PER_POLL);
        while let Some(block) = group.plan.block(at) {
            let answer = link.read(self.target.unit, block, within).await?;
            if let Answer::Refused(code) = answer
                && link::is_about_addresses(code)
                && splits > 0
                && group.plan.split(at)
            {
                splits -= 1;
                continue;
            }
            if let Some(block) = group.plan.block(at) {
                group.take(block, &answer, &mut readings);
            }
            at += 1;
        }
        Ok(readings.into_iter().flatten().collect())
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
            let value = match answer {
                Answer::Bits(bits) => bits.get(from).copied().map(Into::into),
                Answer::Words(words) => words.get(from..).and_then(|words| wanted.form.decode(words)),
                Answer::Refused(code) => {
                    *place = Some(Reading::bad(resource, link::name(*code)));
                    continue;
                }
            };
            *place = value.map(|value| Reading::measured(resource, value));
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
