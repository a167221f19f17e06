//! The control socket: HTTP with JSON on a Unix socket, mode 0660.
//!
//! `view` is what can be asked and `live` the one there is now, `server` answers, `client` asks and prints, `inquire`
//! asks an adapter; `errand` changes something, `peer` is who asked.

pub mod client;
pub mod errand;
pub mod glob;
pub mod inquire;
pub mod live;
mod peer;
pub mod server;
pub mod view;
