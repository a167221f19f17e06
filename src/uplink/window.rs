//! How much may be in the air: the window follows the link. Sans-IO.
//!
//! On each connection it starts at 8 publishes and 32 KiB, grows by what is confirmed, and is held to
//! twice what was confirmed in the last 2 s (at least one publish), at most 256 publishes and 1 MiB:
//! what is in the air can then be confirmed within about four seconds, whatever the link. Twice, or a
//! link with a round trip of 2 s could never open it. After 2 s with an empty air it
//! starts anew, with less where the link is known for less.

use adapter_api::Instant;
use std::{collections::VecDeque, time::Duration};

const START: Size = Size { publishes: 8, bytes: 32 << 10 };
const LIMIT: Size = Size { publishes: 256, bytes: 1 << 20 };
const LOOK_BACK: Duration = Duration::from_secs(2);
/// What is confirmed within so long is noted together: a fast link confirms tens of thousands in those 2 s.
const TOGETHER: Duration = Duration::from_millis(1);

/// An amount of what is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Frames.
    pub publishes: usize,
    /// Bytes of their paths and bodies.
    pub bytes: usize,
}

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    open: Size,
    air: Size,
    /// Nothing flies beside what is in the air.
    alone: bool,
    confirmed: VecDeque<(Instant, Size)>,
    recent: Size,
    /// Since when the air is empty.
    quiet_since: Option<Instant>,
    /// The shortest time to a confirmation.
    fastest: Option<Duration>,
    /// When something was last confirmed.
    last_carried: Option<Instant>,
    /// The air was full, or something was under way for long: the link, not the site, sets the pace.
    was_full: bool,
}

impl Window {
    /// The window of a new connection.
    pub(super) fn new() -> Self {
        Self {
            open: START,
            air: Size::default(),
            alone: false,
            confirmed: VecDeque::new(),
            recent: Size::default(),
            quiet_since: None,
            fastest: None,
            last_carried: None,
            was_full: false,
        }
    }

    /// Bytes that may still go; `None` if the window is full.
    pub(super) fn room(&mut self, now: Instant) -> Option<usize> {
        if crate::mutant::is(crate::mutant::Mutant::NoWindow) {
            return Some(LIMIT.bytes);
        }
        self.hold(now);
        // One publish may always go.
        if self.air.publishes == 0 {
            return Some(self.open.bytes);
        }
        if self.alone {
            return None;
        }
        let room = self.open.bytes.saturating_sub(self.air.bytes);
        if self.air.publishes >= self.open.publishes || room == 0 {
            self.was_full = true;
            return None;
        }
        Some(room)
    }

    /// What may be in the air so that it waits no longer than so much in a hundred of 2 s for its turn on
    /// the link: what the link carried in that time, and what it has to hold to be busy at all. Where that
    /// is not known yet, so much of the window. At least one publish.
    pub(super) fn share(&self, percent: usize) -> Size {
        let known = self.was_full && !self.confirmed.is_empty();
        let way = self.fastest.filter(|_| known).unwrap_or_default().min(LOOK_BACK);
        let way = usize::try_from(way.as_millis() * 100 / LOOK_BACK.as_millis()).unwrap_or(100);
        let all = if known { self.recent } else { self.open };
        let of = |all: usize| (all.saturating_mul(percent.saturating_add(way)) / 100).max(1);
        Size { publishes: of(all.publishes), bytes: of(all.bytes) }
    }

    /// More would have gone: the link sets the pace, as far as the window is concerned.
    pub(super) fn fill(&mut self) {
        self.was_full = true;
    }

    /// Whether so many frames may go at once.
    pub(super) fn fits(&mut self, publishes: usize) -> bool {
        let fits =
            self.air.publishes == 0 || self.air.publishes.saturating_add(publishes) <= self.open.publishes;
        self.was_full |= !fits;
        fits || crate::mutant::is(crate::mutant::Mutant::NoWindow)
    }

    /// How many frames may be in the air.
    pub(super) fn publishes(&self) -> usize {
        self.open.publishes
    }

    /// What is in the air.
    pub(super) fn air(&self) -> Size {
        self.air
    }

    /// This went out; `alone`: nothing may fly beside it.
    pub(super) fn sent(&mut self, size: Size, alone: bool) {
        self.alone |= alone;
        self.air.publishes = self.air.publishes.saturating_add(size.publishes);
        self.air.bytes = self.air.bytes.saturating_add(size.bytes);
        self.quiet_since = None;
    }

    /// This is no longer in the air.
    pub(super) fn lost(&mut self, now: Instant, size: Size) {
        self.air.publishes = self.air.publishes.saturating_sub(size.publishes);
        self.air.bytes = self.air.bytes.saturating_sub(size.bytes);
        if self.air.publishes == 0 {
            self.alone = false;
            self.quiet_since = Some(now);
        }
    }

    /// This was confirmed, whether it still counted as in the air or not.
    pub(super) fn carried(&mut self, now: Instant, sent: Instant, size: Size) {
        if size.publishes > 0 {
            let way = now.since(sent);
            self.fastest = Some(self.fastest.map_or(way, |known| known.min(way)));
            // The link worked on it since then, or since the one before it.
            let took = now.since(self.last_carried.map_or(sent, |last| last.max(sent)));
            self.last_carried = Some(now);
            self.was_full |= took > LOOK_BACK;
            // Of one large frame that took longer, only its share of the last 2 s: or a slow link would
            // be trusted with a larger one each time.
            let counted = Size { bytes: share(size.bytes, took), ..size };
            self.note(now, counted);
            self.recent.publishes += counted.publishes;
            self.recent.bytes += counted.bytes;
            if self.was_full {
                self.open.publishes += counted.publishes;
                self.open.bytes += counted.bytes;
            }
        }
        self.hold(now);
    }

    fn note(&mut self, now: Instant, size: Size) {
        match self.confirmed.back_mut() {
            Some((at, sum)) if now.since(*at) < TOGETHER => {
                sum.publishes += size.publishes;
                sum.bytes += size.bytes;
            }
            _ => self.confirmed.push_back((now, size)),
        }
    }

    fn hold(&mut self, now: Instant) {
        while let Some((at, size)) = self.confirmed.front()
            && now.since(*at) > LOOK_BACK
        {
            self.recent.publishes -= size.publishes;
            self.recent.bytes -= size.bytes;
            self.confirmed.pop_front();
        }
        if self.quiet_since.is_some_and(|since| now.since(since) > LOOK_BACK) {
            // What was learnt of a slow link is kept: 32 KiB would be half a minute of it.
            (self.open, self.was_full) = (self.open.min(START), false);
        } else if self.was_full && !self.confirmed.is_empty() {
            self.open.publishes = self.open.publishes.min(self.recent.publishes * 2);
            self.open.bytes = self.open.bytes.min(self.recent.bytes * 2);
        } else if self.was_full && self.air.publishes > 0 {
            // Full, and nothing confirmed for 2 s: one publish at a time once the air is clear.
            self.open = self.open.min(Size { publishes: 1, bytes: self.open.bytes });
        }
        self.open = self.open.min(LIMIT).max(Size { publishes: 1, bytes: 1 });
    }
}

/// What was carried in the last 2 s of the time it took.
fn share(bytes: usize, took: Duration) -> usize {
    if took <= LOOK_BACK {
        return bytes;
    }
    let share = u128::try_from(bytes).unwrap_or_default() * LOOK_BACK.as_millis() / took.as_millis();
    usize::try_from(share).unwrap_or(bytes)
}

impl Size {
    fn min(self, other: Self) -> Self {
        Self { publishes: self.publishes.min(other.publishes), bytes: self.bytes.min(other.bytes) }
    }

    fn max(self, other: Self) -> Self {
        Self { publishes: self.publishes.max(other.publishes), bytes: self.bytes.max(other.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Size = Size { publishes: 1, bytes: 1_000 };
    const PART: Size = Size { publishes: 1, bytes: 4_000 };

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn fill(window: &mut Window, now: Instant) -> usize {
        let mut sent = 0;
        while window.room(now).is_some() {
            window.sent(ONE, false);
            sent += 1;
        }
        sent
    }

    fn confirm(window: &mut Window, sent: Instant, now: Instant) {
        window.lost(now, ONE);
        window.carried(now, sent, ONE);
    }

    #[test]
    fn it_opens_on_a_fast_link_and_never_beyond_the_limit() {
        let mut window = Window::new();
        let mut widest = 0;
        for round in 0..40 {
            let now = at(round * 10);
            widest = widest.max(fill(&mut window, now));
            while window.air().publishes > 0 {
                confirm(&mut window, now, now + Duration::from_millis(5));
            }
        }
        assert_eq!(widest, 256);
    }

    #[test]
    fn it_opens_with_a_round_trip_of_two_seconds() {
        let mut window = Window::new();
        let mut sent = Vec::new();
        for round in 0..8 {
            let now = at(round * 2_000);
            sent.push(fill(&mut window, now));
            while window.air().publishes > 0 {
                confirm(&mut window, now, now + Duration::from_millis(1_999));
            }
        }
        assert!(sent.windows(2).all(|w| w[0] <= w[1]) && sent[7] >= 128, "{sent:?}");
    }

    #[test]
    fn it_is_held_to_what_a_slow_link_confirms() {
        // One publish of 1,000 bytes each second.
        let mut window = Window::new();
        let mut most = 0;
        for second in 1..60 {
            fill(&mut window, at(second * 1_000));
            confirm(&mut window, at(second * 1_000 - 1_000), at(second * 1_000));
            if second > 20 {
                most = most.max(window.air().publishes);
            }
        }
        assert!((1..=6).contains(&most), "{most}");
    }

    #[test]
    fn one_large_frame_on_a_slow_link_earns_no_larger_one() {
        // 1,000 bytes per second, always one frame as large as the window allows.
        let (mut window, mut now, mut largest) = (Window::new(), 0, 0);
        for round in 0..20 {
            let bytes = window.room(at(now)).unwrap();
            let frame = Size { publishes: 1, bytes };
            window.sent(frame, false);
            let sent = now;
            assert!(window.room(at(now)).is_none());
            now += u64::try_from(bytes).unwrap();
            window.lost(at(now), frame);
            window.carried(at(now), at(sent), frame);
            largest = if round > 5 { largest.max(bytes) } else { 0 };
        }
        assert!((1_000..=6_000).contains(&largest), "{largest}");
    }

    #[test]
    fn half_of_what_is_carried_keeps_a_far_link_busy_and_the_wait_short() {
        // 32,000 bytes per second in parts of 4,000, this far away: backlog that keeps to its share.
        for (round_trip_ms, least) in [(50, 31_000), (300, 31_000), (900, 31_000), (1_900, 28_000)] {
            let (mut window, mut free_at, mut air) = (Window::new(), 0, VecDeque::new());
            let (mut carried, mut longest) = (0, 0);
            for now in (0..120_000).step_by(5) {
                while air.front().is_some_and(|(_, back)| *back <= now) {
                    let (sent, _) = air.pop_front().unwrap();
                    window.lost(at(now), PART);
                    window.carried(at(now), at(sent), PART);
                    if now > 60_000 {
                        carried += PART.bytes;
                        longest = longest.max(now - sent);
                    }
                }
                while window.room(at(now)).is_some() {
                    let share = window.share(50);
                    let held = window.air();
                    if held.publishes > 0 && (held.publishes >= share.publishes || held.bytes >= share.bytes)
                    {
                        window.fill();
                        break;
                    }
                    window.sent(PART, false);
                    free_at = now.max(free_at) + 125;
                    air.push_back((now, free_at + round_trip_ms));
                }
            }
            assert!(carried / 60 >= least, "{round_trip_ms} ms: {} bytes per second", carried / 60);
            assert!(longest <= 1_400 + round_trip_ms, "{round_trip_ms} ms: {longest} ms on the way");
        }
    }

    #[test]
    fn it_starts_anew_after_a_pause() {
        let mut window = Window::new();
        fill(&mut window, at(0));
        while window.air().publishes > 0 {
            confirm(&mut window, at(0), at(10));
        }
        assert_eq!(fill(&mut window, at(60_000)), 8);
    }

    #[test]
    fn what_a_fast_link_confirms_is_noted_together_and_counted_one_by_one() {
        let mut window = Window::new();
        let moment = |n: u64| Instant::from_start(Duration::from_micros(n * 50));
        for n in 0..100_000 {
            window.sent(ONE, false);
            window.carried(moment(n), moment(n), ONE);
        }
        assert!(window.confirmed.len() <= 2_001, "{} notes", window.confirmed.len());
        // 20,000 a second, over 2 s; what was noted together goes together.
        assert!((39_980..=40_001).contains(&window.recent.publishes), "{:?}", window.recent);
        let noted = window.confirmed.iter().map(|(_, size)| size.publishes).sum::<usize>();
        assert_eq!(noted, window.recent.publishes);
    }
}
