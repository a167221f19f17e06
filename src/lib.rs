//! Tidegate. The code map comes here.

pub mod config;
pub mod dialect;
pub mod endpoints;
