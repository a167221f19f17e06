//! Tidegate. The code map comes here.

pub mod backoff;
pub mod config;
pub mod dialect;
pub mod endpoints;
pub mod failpoint;
pub(crate) mod mutant;
pub mod shape;
pub mod store;
pub mod uplink;
