//! The control socket: HTTP with JSON on a Unix socket, mode 0660.
//!
//! `view` is what can be asked, `server` answers, `client` asks and prints, `inquire` asks an adapter, `peer` is who asks.

pub mod client;
pub mod glob;
pub mod inquire;
mod peer;
pub mod server;
pub mod view;
