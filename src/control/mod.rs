//! The control socket: HTTP with JSON on a Unix socket, mode 0660.
//!
//! `view` is what can be asked, `server` answers, `client` asks and prints, `inquire` asks an adapter.

pub mod client;
pub mod inquire;
pub mod server;
pub mod view;
