//! Tidegate. The code map comes here.

pub mod backoff;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod dialect;
pub mod endpoints;
pub mod failpoint;
pub mod log;
pub(crate) mod mutant;
pub mod shape;
pub mod store;
pub mod supervisor;
pub mod uplink;
