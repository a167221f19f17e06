//! Known mistakes that the simulation must notice (`uplink/sim.rs`).
//!
//! In a build that is no unit test every question is answered "no" at compile time. A test switches
//! one mutant on for its own thread.

/// A mistake that would lose data, or repeat it without need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Flights of a dead connection are taken for flights of the new one.
    FlightsKeptOverDisconnect,
    /// A lane gets a second flight before the first has landed.
    TwoFlightsInALane,
    /// As much is sent as there is.
    NoWindow,
    /// Request ids start at 1 with each process.
    IdsRestartAtOne,
    /// A reply's token is not looked at.
    TokenNotCompared,
    /// A lane is free before the store has taken its landed rows off the books.
    LaneFreedEarly,
    /// Quota drops take rows in flight.
    DropIgnoresFlights,
    /// A refused batch is buried whole.
    RefusalBuriesTheBatch,
    /// A reply's deadline starts when the request is handed to the link.
    DeadlineFromSubmission,
    /// An endpoint's backlog lanes fly beside each other.
    BacklogAtOnce,
    /// With all its lanes in use, an endpoint's live rows go into its oldest backlog.
    LiveIntoTheOldest,
    /// An endpoint with another token flies on before its new filters are granted.
    OpenWithTheOldFilter,
    /// Flights of an endpoint that left the configuration stay in the air.
    FlightsKeptOverDeparture,
    /// A broker that hangs up on what one endpoint sends is taken for a bad link.
    HangUpIsChance,
}

#[cfg(test)]
impl Mutant {
    /// Every one of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::FlightsKeptOverDisconnect,
        Self::TwoFlightsInALane,
        Self::NoWindow,
        Self::IdsRestartAtOne,
        Self::TokenNotCompared,
        Self::LaneFreedEarly,
        Self::DropIgnoresFlights,
        Self::RefusalBuriesTheBatch,
        Self::DeadlineFromSubmission,
        Self::BacklogAtOnce,
        Self::LiveIntoTheOldest,
        Self::OpenWithTheOldFilter,
        Self::FlightsKeptOverDeparture,
        Self::HangUpIsChance,
    ];
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Switches a mutant on for this thread, or all off.
#[cfg(test)]
pub(crate) fn switch(mutant: Option<Mutant>) {
    ON.set(mutant);
}

/// Whether this mutant is on.
#[cfg(test)]
pub(crate) fn is(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Whether this mutant is on: never, outside the simulation.
#[cfg(not(test))]
#[inline]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}
