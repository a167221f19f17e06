//! Panics in the journal: a unit that breaks on the same thing at each start is told once, and hourly.

use adapter_api::{clock, journal::Seldom};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// By place: as many as the program has that can panic.
static TOLD: Mutex<BTreeMap<String, Seldom>> = Mutex::new(BTreeMap::new());

/// Whether a panic there is to be told, and how many were not since the last one that was.
pub(super) fn tell(place: &str) -> Option<u64> {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.entry(place.to_owned()).or_default().tell(clock::now())
}
