//! The tap of an adapter's wires: frames as they leave and arrive, for whoever listens.
//!
//! While nobody does, nothing is copied. A listener that is too slow misses frames and is told how many.

use crate::wire::Wire;
use adapter_api::{Clock, Stamp};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Frames a listener may be behind: seconds on a fast network, minutes on a serial line.
const BEHIND: usize = 1_024;

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
    /// As on the wire.
    pub bytes: Vec<u8>,
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

    /// Shows a frame that has just gone or come.
    pub(crate) fn show(&self, ours: bool, bytes: &[u8]) {
        if self.is_open() && !bytes.is_empty() {
            let (wire, at) = (self.wire.clone(), self.clock.stamp());
            // The last listener may go at any time.
            let _unheard = self.tap.0.send(Arc::new(Frame { wire, at, ours, bytes: bytes.to_vec() }));
        }
    }
}
