//! Known mistakes that the tests of timetable and plan must notice.
//!
//! In a build that is no unit test every question is answered "no" at compile time. A test switches
//! one mutant on for its own thread.

/// A mistake that would cost bus time, or a device its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A unit that may still answer is asked all the same.
    NoHold,
    /// A device that answers again is probed as before.
    FailuresKept,
    /// One answer makes up for any number of time-outs.
    ScoreForgotten,
    /// Probes go as often as they like.
    NoShare,
    /// After three time-outs the probes come no more rarely than before.
    NeverCalm,
    /// What a noisy line does is taken for the devices' fault.
    NoiseBlamed,
    /// The next reading is due a period after the last one.
    NoGrid,
    /// What was missed is made up for.
    MissedMadeUp,
    /// Requests from outside go before everything.
    OutsideFirst,
    /// What a device has refused is asked for in the next round.
    ParkedAsked,
    /// What had no answer is asked for first again.
    SilentFirst,
    /// A device that did not answer is probed by the same group as before.
    SameGroup,
    /// What was split stays so.
    NeverJoined,
    /// Registers nobody asked for are read again after a refusal.
    HolesKept,
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Runs a test with a mutant on: it has to fail.
#[cfg(test)]
pub(crate) fn is_killed_by(mutant: Mutant, name: &str, test: fn()) {
    ON.set(Some(mutant));
    let survived = std::panic::catch_unwind(test).is_ok();
    ON.set(None);
    assert!(!survived, "{mutant:?} survives {name}");
    println!("FIGURE modbus mutants: {mutant:?} killed by {name}");
}

/// Whether this mutant is on.
#[cfg(test)]
pub(crate) fn is(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Whether this mutant is on: never, outside the tests.
#[cfg(not(test))]
#[inline]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}
