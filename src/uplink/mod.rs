//! The way up.
pub(crate) mod engine;
pub(crate) mod mqtt;
pub mod outflow;
mod parking;
mod subscribe;
pub(crate) mod window;
