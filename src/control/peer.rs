//! Who asks on the control socket: what the kernel says of the process at the other end (`SO_PEERCRED`). Whatever
//! changes something is written down with the user who asked for it.

use axum::{
    extract::{ConnectInfo, Request, connect_info::Connected},
    http::Method,
    middleware::Next,
    response::Response,
    serve::IncomingStream,
};
use std::fmt;
use tokio::net::UnixListener;

/// The process at the other end, when it connected. Nothing of it is what it says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let known = stream.io().peer_cred().ok();
        Self { uid: known.map(|known| known.uid()), pid: known.and_then(|known| known.pid()) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "uid {uid}")?,
            None => f.write_str("uid unknown")?,
        }
        self.pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
    }
}

/// Writes down who asks for what, where it is no mere look; of letters and rows more is said where that is done.
pub(super) async fn write_down(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let asked = request.uri().path();
    let told_elsewhere =
        ["/v1/inquiry/", "/v1/dead/", "/v1/queue/"].iter().any(|path| asked.starts_with(path));
    if request.method() != Method::GET && !told_elsewhere {
        tracing::info!(%peer, asked, "asked for on the control socket");
    }
    next.run(request).await
}
