//! The address, and the connections to it: a bounded number, each for a bounded time, so that nobody who
//! holds them open takes more than the page from anybody else.

use super::{
    answer::{self, Site},
    crowd::{Crowd, Seat},
};
use crate::fault::{self, Code, Fault, Notice};
use adapter_api::{CancellationToken, clock};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A request has to come within it; as long a connection may stay unused.
const IDLE: Duration = Duration::from_secs(15);
/// After it a connection is closed, whatever goes on: a browser opens another one.
const LIFE: Duration = Duration::from_secs(600);
/// Room for a request's head, in bytes.
const HEAD: usize = 16 << 10;
/// An address that cannot be had, or a connection that cannot be taken, is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// Listens until told to stop.
pub(super) async fn run(
    address: SocketAddr,
    site: Arc<Site>,
    notice: Notice,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    // Cancel-safe: with the future of `serve` all connections end.
    tokio::select! {
        never = serve(address, &site, &notice) => match never {},
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn serve(address: SocketAddr, site: &Arc<Site>, notice: &Notice) -> Infallible {
    let listener = bind(address, notice).await;
    tracing::info!(%address, "the status page is served");
    let mut connections = JoinSet::new();
    let mut crowd = Crowd::default();
    loop {
        // Cancel-safe, both of them.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    notice.set(None);
                    crowd.make_room();
                    let seat = Seat::new(clock::now(), peer.ip());
                    let task = connections.spawn_local(connection(stream, seat.clone(), site.clone()));
                    crowd.admit(seat, task);
                }
                Err(error) => {
                    // No file descriptors are left, mostly: others need them more than we do.
                    let what = format!("no connection can be taken: {}", fault::words(&error));
                    let fault = Fault::new(Code::HttpListener, what, format!("http.listen = \"{address}\""));
                    notice.set(Some(fault));
                    clock::sleep(AGAIN).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Waits until the address can be had.
async fn bind(address: SocketAddr, notice: &Notice) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                notice.set(None);
                return listener;
            }
            Err(error) => {
                let what = match error.kind() {
                    io::ErrorKind::AddrInUse => "another program listens there",
                    io::ErrorKind::AddrNotAvailable => "the address is none of this machine",
                    _ => fault::words(&error),
                };
                let what = format!("the status page cannot be served: {what}");
                let fault = Fault::new(Code::HttpListener, what, format!("http.listen = \"{address}\""));
                notice.set(Some(fault));
                clock::sleep(AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, seat: Seat, site: Arc<Site>) {
    let Ok(local) = stream.local_addr() else { return };
    let service = service_fn(async |request| {
        seat.asks(clock::now());
        let Ok(reply) = answer::answer(&site, (local.ip(), seat.peer()), request).await;
        seat.is_answered(clock::now(), reply.status().is_success());
        Ok::<_, Infallible>(reply)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEAD)
        // What the time is, is not for the page to say: it may not be known.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    match clock::timeout(LIFE, connection).await {
        Ok(Ok(())) | Err(clock::Elapsed) => {}
        Ok(Err(error)) => tracing::trace!(%error, "a connection to the status page has ended"),
    }
}
