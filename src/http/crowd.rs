//! How many connections there may be, and which one is closed for another: one of who has more than half of them, else
//! not one that is used, as long as there are others, so that nobody who opens many (a scanner) cuts off whoever looks
//! at the page. Sans-IO, but for the tasks it ends.

use adapter_api::Instant;
use std::{cell::Cell, cmp::Reverse, net::IpAddr, rc::Rc};
use tokio::task::AbortHandle;

/// Connections at a time; a browser opens six.
const ROOM: usize = 32;

/// The connections there are.
#[derive(Debug, Default)]
pub(super) struct Crowd(Vec<(Seat, AbortHandle)>);

/// What a connection does. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    peer: IpAddr,
    state: Rc<Cell<(Use, Instant)>>,
}

/// What a connection was used for; who goes first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// It got nothing yet but refusals.
    None,
    /// It was answered.
    Answered,
    /// A request is under way, after an answer or without one.
    Asking { answered: bool },
}

impl Crowd {
    /// If it is full, closes one.
    pub(super) fn make_room(&mut self) {
        self.0.retain(|(_, task)| !task.is_finished());
        if self.0.len() >= ROOM
            && let Some(first) = first_to_go(&self.0.iter().map(|(seat, _)| seat))
        {
            self.0.swap_remove(first).1.abort();
        }
    }

    /// One more.
    pub(super) fn admit(&mut self, seat: Seat, task: AbortHandle) {
        self.0.push((seat, task));
    }
}

/// Of a peer that has more than half of all, if there is one, else of all: of those that do the least, the one whose
/// peer has the most connections; of these the one that has done so the longest.
fn first_to_go<'s>(seats: &(impl Iterator<Item = &'s Seat> + Clone)) -> Option<usize> {
    let of = |peer: IpAddr| seats.clone().filter(|seat| seat.peer == peer).count();
    let rank = |seat: &Seat| {
        let (used, since) = seat.state.get();
        let many = of(seat.peer);
        (many <= ROOM / 2, used, Reverse(many), since)
    };
    seats.clone().enumerate().min_by_key(|(_, seat)| rank(seat)).map(|(n, _)| n)
}

impl Seat {
    pub(super) fn new(now: Instant, peer: IpAddr) -> Self {
        Self { peer: peer.to_canonical(), state: Rc::new(Cell::new((Use::None, now))) }
    }

    /// Who sits there.
    pub(super) const fn peer(&self) -> IpAddr {
        self.peer
    }

    /// A request has come.
    pub(super) fn asks(&self, now: Instant) {
        let answered = self.state.get().0 == Use::Answered;
        self.state.set((Use::Asking { answered }, now));
    }

    /// It is answered, and with what it asked for, or not.
    pub(super) fn is_answered(&self, now: Instant, good: bool) {
        let before = matches!(self.state.get().0, Use::Asking { answered: true });
        self.state.set((if good || before { Use::Answered } else { Use::None }, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What has happened on a connection: in seconds, a request and how it ended.
    type Story<'s> = (u8, u64, &'s [(u64, Option<bool>)]);

    fn check(stories: &[Story], expected: usize) {
        let at = |seconds| Instant::from_start(Duration::from_secs(seconds));
        let seats: Vec<Seat> = stories
            .iter()
            .map(|(peer, opened, requests)| {
                let seat = Seat::new(at(*opened), [192, 0, 2, *peer].into());
                for (second, end) in *requests {
                    seat.asks(at(*second));
                    if let Some(good) = *end {
                        seat.is_answered(at(*second), good);
                    }
                }
                seat
            })
            .collect();
        assert_eq!(first_to_go(&seats.iter()), Some(expected), "{stories:?}");
    }

    const GOOD: Option<bool> = Some(true);
    const REFUSED: Option<bool> = Some(false);

    #[test]
    fn the_one_that_is_idle_longest_goes_first() {
        check(&[(1, 0, &[(9, GOOD)]), (1, 5, &[(6, GOOD)]), (1, 1, &[(7, GOOD)])], 1);
        check(&[(1, 3, &[]), (1, 2, &[]), (1, 4, &[])], 1);
    }

    #[test]
    fn whoever_was_answered_stays_before_whoever_asked_for_nothing() {
        check(&[(1, 0, &[(1, GOOD)]), (1, 99, &[])], 1);
        check(&[(1, 0, &[(1, GOOD)]), (1, 0, &[(99, REFUSED)])], 1);
        check(&[(1, 0, &[(1, GOOD), (2, REFUSED)]), (1, 0, &[(99, REFUSED)])], 1);
    }

    #[test]
    fn what_is_under_way_is_ended_last() {
        check(&[(1, 0, &[(1, None)]), (1, 50, &[(99, GOOD)])], 1);
        check(&[(1, 0, &[(1, GOOD), (2, None)]), (1, 99, &[])], 1);
        check(&[(1, 0, &[(2, None)]), (1, 0, &[(1, None)])], 1);
    }

    #[test]
    fn whoever_has_the_most_connections_gives_one() {
        let person: Story = (1, 0, &[(1, GOOD)]);
        check(&[person, (2, 2, &[(8, GOOD)]), (2, 3, &[(7, GOOD)])], 2);
        check(&[(1, 0, &[]), (2, 2, &[]), (2, 3, &[])], 1);
        check(&[(1, 0, &[(1, None)]), (2, 2, &[(3, None)]), (2, 2, &[(2, None)])], 2);
    }

    #[test]
    fn whoever_has_more_than_half_gives_one_though_all_of_its_are_under_way() {
        let person: Story = (1, 0, &[(1, GOOD)]);
        let under_way: Story = (2, 2, &[(3, None)]);
        let with = |scanners: usize| [&[person][..], &vec![under_way; scanners]].concat();
        check(&with(ROOM - 1), 1);
        check(&with(ROOM / 2 + 1), 1);
        check(&with(ROOM / 2), 0);
    }
}
