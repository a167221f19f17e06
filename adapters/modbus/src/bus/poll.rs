//! One poll on a bus: a group of a device's resources, request by request, and what follows from it.

use super::Bus;
use crate::{
    health::Subject,
    link::Trouble,
    outside::Unheard,
    round::{Group, Missing, Round},
    schedule::Turn,
};
use adapter_api::{Presence, Reading, Sample, clock::now};

/// What a poll of a group brought.
struct Poll {
    readings: Vec<Reading>,
    missing: Option<Missing>,
    /// What ended it before all was read.
    trouble: Option<Trouble>,
    /// Something was asked for it.
    asked: bool,
}

impl Bus {
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

    pub(super) async fn poll(&mut self, turn: &Turn) {
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
}

impl Poll {
    fn of(round: Round, trouble: Option<Trouble>) -> Self {
        let asked = round.has_begun();
        let (readings, missing) = round.finish();
        Self { readings, missing, trouble, asked }
    }
}
