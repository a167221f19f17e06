//! The control socket: HTTP with JSON on a Unix socket, mode 0660.
//!
//! `view` is what can be asked, `server` answers, `client` asks and prints.

pub mod client;
pub mod server;
pub mod view;
