//! When the next part may fly: the limits an operator sets to the uplink and to replay. Sans-IO.
//!
//! Not here: what the link can carry (`window`), and what may be sent in a day (`budget`).

use super::window::Size;
use adapter_api::Instant;
use serde::Deserialize;
use std::time::Duration;

/// `[uplink.limits]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Publishes.
    pub messages_per_s: Option<u32>,
    /// Bytes of topics and payloads.
    pub bytes_per_s: Option<u32>,
    /// Bytes of topics and payloads in a day.
    pub daily_bytes: Option<u64>,
}

/// `uplink.replay.order`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// An endpoint's samples fly in the order they were taken, whatever waits.
    #[default]
    InOrder,
    /// What fell behind makes way for what is new.
    LiveFirst,
}

/// `[uplink.replay]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Which samples of an endpoint go first.
    pub order: Order,
    /// A lane has fallen behind when its oldest sample is older.
    pub live_age: Duration,
    /// Of the window in a hundred: what backlog may have beside live rows.
    pub share: usize,
    /// Samples of backlog per second.
    pub max_rate: Option<u32>,
}

/// The two limits of a second.
#[derive(Debug)]
pub(super) struct Pacing {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// So much in a second, over any longer time. What is larger than all it holds may go, and what follows
/// waits until it is paid for.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate: u32,
    /// All that went is paid for then.
    paid_at: Instant,
}

/// So far ahead of its time a part may go: a timer for each of 10,000 in a second would not keep up.
const AHEAD: Duration = Duration::from_millis(100);

impl Default for Replay {
    fn default() -> Self {
        Self { order: Order::InOrder, live_age: Duration::from_secs(60), share: 50, max_rate: None }
    }
}

impl Pacing {
    /// Nothing has been sent yet.
    pub(super) fn new(limits: &Limits) -> Self {
        Self { messages: limits.messages_per_s.map(Bucket::new), bytes: limits.bytes_per_s.map(Bucket::new) }
    }

    /// When the next part may go, if not now.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        [&self.messages, &self.bytes].into_iter().flatten().filter_map(|bucket| bucket.wait(now)).max()
    }

    /// Bytes worth a second: larger parts would come in jerks.
    pub(super) fn most_bytes(&self) -> usize {
        self.bytes.as_ref().map_or(usize::MAX, |bucket| usize::try_from(bucket.rate).unwrap_or(usize::MAX))
    }

    /// This went.
    pub(super) fn sent(&mut self, now: Instant, size: Size) {
        self.messages.iter_mut().for_each(|bucket| bucket.take(now, size.publishes));
        self.bytes.iter_mut().for_each(|bucket| bucket.take(now, size.bytes));
    }
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: rate.max(1), paid_at: Instant::from_start(Duration::ZERO) }
    }

    /// When something may be taken, if not now.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        let early = self.paid_at - AHEAD;
        (early > now).then_some(early)
    }

    /// Takes so many, there or not.
    pub(super) fn take(&mut self, now: Instant, count: usize) {
        let nanos = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(1_000_000_000);
        self.paid_at = self.paid_at.max(now) + Duration::from_nanos(nanos / u64::from(self.rate));
    }

    /// How many of them make a second.
    pub(super) fn rate(&self) -> usize {
        usize::try_from(self.rate).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends parts of this size as often as it may for so many seconds; how many went.
    fn sent(limits: Limits, size: Size, seconds: u64) -> u64 {
        let mut pacing = Pacing::new(&limits);
        let (start, mut sent) = (Instant::from_start(Duration::from_secs(100)), 0);
        let mut now = start;
        while now.since(start) < Duration::from_secs(seconds) {
            match pacing.wait(now) {
                Some(later) => {
                    assert!(later > now, "it would turn without an end");
                    now = later;
                }
                None => {
                    pacing.sent(now, size);
                    sent += 1;
                }
            }
            assert!(sent < 1_000_000, "nothing holds it");
        }
        sent
    }

    #[test]
    fn no_more_goes_than_the_limits_say_and_no_less() {
        let none = Limits::default();
        let ten = Limits { messages_per_s: Some(10), ..none };
        let kilo = Limits { bytes_per_s: Some(1_000), ..none };
        let both = Limits { messages_per_s: Some(10), ..kilo };
        let fast = Limits { messages_per_s: Some(20_000), ..none };
        for (limits, bytes, expected) in [
            (ten, 5_000, 600),
            (kilo, 100, 600),
            (both, 50, 600),
            (both, 500, 120),
            (fast, 1, 1_200_000 / 20),
        ] {
            let seconds = if limits == fast { 3 } else { 60 };
            let sent = sent(limits, Size { publishes: 1, bytes }, seconds);
            let ahead = sent / 100 + 2;
            assert!(
                sent.abs_diff(expected) <= ahead.max(2_000 * u64::from(limits == fast)),
                "{limits:?}: {sent}"
            );
        }
    }

    #[test]
    fn a_part_larger_than_a_seconds_worth_goes_and_is_paid_for() {
        let limits = Limits { bytes_per_s: Some(1_000), ..Limits::default() };
        let sent = sent(limits, Size { publishes: 1, bytes: 30_000 }, 60);
        assert_eq!(sent, 3, "at once, after 30 s and just before a minute is over");
    }
}
