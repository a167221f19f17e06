//! The tap of an adapter's wires: frames as they leave and arrive, for whoever listens.
//!
//! While nobody does, nothing is copied. A listener that is too slow misses frames and is told how many.

use crate::wire::Wire;
use adapter_api::{Clock, Stamp};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Frames a listener may be behind: seconds on a fast network, minutes on a serial line.
const BEHIND: usize = 1_024;

/// The most bytes of one frame; real ones have at most 513.
const FRAME: usize = 2_048;

/// Where frames are shown. Clones are the same tap.
#[derive(Debug, Clone)]
pub(crate) struct Tap(broadcast::Sender<Arc<Frame>>);

/// A tap of one wire.
#[derive(Debug, Clone)]
pub(crate) struct WireTap {
    tap: Tap,
    wire: Wire,
    clock: Clock,
}

/// What went over a wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Which.
    pub wire: Wire,
    /// When its last byte was handed to the system, or came from it.
    pub at: Stamp,
    /// A request of ours.
    pub ours: bool,
    /// As on the wire, from the beginning.
    pub bytes: Vec<u8>,
    /// How many more there were.
    pub missing: usize,
}

/// Bytes on their way to the tap: of a line that babbles the first ones, and how many more there were.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    bytes: Vec<u8>,
    missing: usize,
}

impl Heard {
    pub(crate) fn take_in(&mut self, bytes: &[u8]) {
        let (kept, over) = bytes.split_at(bytes.len().min(FRAME.saturating_sub(self.bytes.len())));
        self.bytes.extend_from_slice(kept);
        self.missing = self.missing.saturating_add(over.len());
    }

    /// Some converters echo what they are given.
    pub(crate) fn without_echo(&mut self, frame: &[u8]) {
        if self.bytes.starts_with(frame) {
            self.bytes.drain(..frame.len());
        }
    }
}

impl Tap {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.0.subscribe()
    }

    pub(crate) fn of(&self, wire: &Wire, clock: &Clock) -> WireTap {
        WireTap { tap: self.clone(), wire: wire.clone(), clock: clock.clone() }
    }
}

impl WireTap {
    /// Whether anybody listens.
    pub(crate) fn is_open(&self) -> bool {
        self.tap.0.receiver_count() > 0
    }

    /// Shows a frame that has just gone.
    pub(crate) fn show_ours(&self, bytes: &[u8]) {
        if self.is_open() {
            self.show(true, bytes.to_vec(), 0);
        }
    }

    /// Shows what has come.
    pub(crate) fn show_theirs(&self, heard: Heard) {
        self.show(false, heard.bytes, heard.missing);
    }

    fn show(&self, ours: bool, bytes: Vec<u8>, missing: usize) {
        if self.is_open() && !bytes.is_empty() {
            let (wire, at) = (self.wire.clone(), self.clock.stamp());
            // The last listener may go at any time.
            let _unheard = self.tap.0.send(Arc::new(Frame { wire, at, ours, bytes, missing }));
        }
    }
}
