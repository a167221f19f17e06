//! Which address is tried next, and after how long. Sans-IO.

use crate::backoff::{Backoff, Rng};
use std::time::Duration;

/// The first wait after a lost connection, and the longest.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A connection that lasted this long ends the backoff: an expected cut is no failure.
const LASTING: Duration = Duration::from_secs(10);

/// How a connection was when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// So long ago the broker had let us in, if it had.
    pub(super) lasted: Option<Duration>,
    /// It ended because something that was due did not come.
    pub(super) missing: bool,
    /// The platform had confirmed something on it.
    pub(super) confirmed: bool,
}

/// All addresses in turn, for ever.
#[derive(Debug)]
pub(super) struct Redial {
    backoff: Backoff,
    turn: usize,
}

impl Redial {
    /// Begins with the first address.
    pub(super) fn new() -> Self {
        Self { backoff: Backoff::new(RECONNECT.0, RECONNECT.1), turn: 0 }
    }

    /// Which of so many addresses it is, and in which round.
    pub(super) fn turn(&self, addresses: usize) -> (usize, usize) {
        let all = addresses.max(1);
        (self.turn % all, self.turn / all)
    }

    /// How long to wait after a connection. A broker that lets us in and confirms nothing is worth no more than one
    /// that does not: the next address may do better. One that confirmed something before has only gone silent.
    pub(super) fn handle_end(&mut self, ended: Ended, rng: &mut Rng) -> Duration {
        let lasting = ended.lasted.is_some_and(|lasted| lasted >= LASTING);
        if lasting && (ended.confirmed || !ended.missing) {
            self.backoff.reset();
        }
        if !lasting || ended.missing {
            self.turn = self.turn.wrapping_add(1);
        }
        self.backoff.full_jitter(rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(40));
    const SHORT: Option<Duration> = Some(Duration::from_secs(9));

    #[test]
    fn an_address_is_kept_that_lasts_and_left_that_lets_in_and_confirms_nothing() {
        for (lasted, missing, confirmed, kept, anew) in [
            (LONG, false, true, true, true),
            // Idle, and cut as expected.
            (LONG, false, false, true, true),
            (LONG, true, false, false, false),
            // A link that was good and went silent is opened soon again, wherever to.
            (LONG, true, true, false, true),
            (SHORT, false, true, false, false),
            (SHORT, true, false, false, false),
            (None, false, false, false, false),
            (None, true, false, false, false),
        ] {
            let ended = Ended { lasted, missing, confirmed };
            let (mut redial, mut rng) = (Redial::new(), Rng::with_seed(1));
            let failed = Ended { lasted: None, missing: false, confirmed: false };
            for _ in 0..10 {
                redial.handle_end(failed, &mut rng);
            }
            assert_eq!(redial.turn(3), (1, 3));
            redial.handle_end(ended, &mut rng);
            assert_eq!(redial.turn(3) == (1, 3), kept, "{ended:?}");
            assert_eq!(!redial.backoff.is_longest(), anew, "{ended:?}");
        }
    }

    #[test]
    fn two_mute_brokers_are_tried_in_turn_and_ever_more_seldom() {
        let (mut redial, mut rng) = (Redial::new(), Rng::with_seed(1));
        let mute = Ended { lasted: LONG, missing: true, confirmed: false };
        let (mut turns, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            turns.push(redial.turn(2).0);
            waits.push(redial.handle_end(mute, &mut rng));
        }
        assert!(turns.chunks(2).all(|pair| pair == [0, 1]), "{turns:?}");
        let sum = |waits: &[Duration]| waits.iter().sum::<Duration>();
        assert!(sum(&waits[..5]) < Duration::from_secs(31) && sum(&waits[10..]) > Duration::from_secs(300));
    }
}
