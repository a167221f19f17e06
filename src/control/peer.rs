//! Who asks on the control socket. Whatever changes something is written down with the user who asked for it.

use axum::{
    extract::{ConnectInfo, Request, connect_info::Connected},
    http::Method,
    middleware::Next,
    response::Response,
    serve::IncomingStream,
};
use tokio::net::UnixListener;

/// The process at the other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        // unix(7), SO_PEERCRED: as the system knows it, whatever the peer says.
        let known = stream.io().peer_cred().ok();
        Self {
            uid: known.as_ref().map(tokio::net::unix::UCred::uid),
            pid: known.and_then(|known| known.pid()),
        }
    }
}

/// Writes down who asks for what, where it is no mere look.
pub(super) async fn write_down(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let asked = request.uri().path();
    if request.method() != Method::GET && !asked.starts_with("/v1/inquiry/") {
        tracing::info!(uid = peer.uid, pid = peer.pid, asked, "asked for on the control socket");
    }
    next.run(request).await
}
