//! TCP and TLS to the platform: the addresses behind a name, opening, socket options.

use super::{
    diagnosis::{self, Phase},
    tls,
    traffic::{Counted, Traffic},
};
use crate::{
    config::{Address, TlsConfig},
    fault::{Code, Fault},
};
use adapter_api::{Clock, clock};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Bytes the kernel may hold unsent: what the socket took is near the wire.
const NOT_SENT: u32 = 16 << 10;

/// What a handshake needs.
pub(super) type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// How long one of several addresses of a name may take to accept: a dead one costs seconds.
const EACH: Duration = Duration::from_secs(5);

/// An open connection.
pub(super) struct Link {
    /// Where it leads.
    pub(super) peer: SocketAddr,
    stream: Stream,
}

enum Stream {
    /// `mqtt://`
    Plain(Counted),
    /// `mqtts://`
    Tls(Box<TlsStream<Counted>>),
}

/// Opens a connection. The addresses behind a name are tried one after the other, beginning with the
/// `turn`-th; each gets a bounded time, so that a dead one costs seconds.
pub(super) async fn open(
    clock: &Clock,
    address: &Address,
    tls: &TlsConfig,
    limit: Duration,
    turn: usize,
    traffic: &Traffic,
) -> Result<Link, Fault> {
    let tls = if address.tls { Some(tls::configure(clock, tls, address)?) } else { None };
    let found = resolve(address, limit).await?;
    open_first(address, &found, tls, limit, turn, traffic).await
}

pub(super) async fn open_first(
    address: &Address,
    found: &[SocketAddr],
    tls: Option<Tls>,
    limit: Duration,
    turn: usize,
    traffic: &Traffic,
) -> Result<Link, Fault> {
    let mut failed = None;
    for n in 0..found.len() {
        let Some(peer) = found.get((n + turn % found.len().max(1)) % found.len().max(1)) else { break };
        let patience = if n + 1 == found.len() { limit } else { limit.min(EACH) };
        match connect(address, *peer, tls.clone(), (patience, limit), traffic).await {
            Ok(link) => return Ok(link),
            Err(fault) => failed = Some(fault),
        }
    }
    Err(failed.unwrap_or_else(|| unknown(address, "has no address")))
}

/// The addresses behind a name.
pub(super) async fn resolve(address: &Address, limit: Duration) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    match clock::timeout(limit, tokio::net::lookup_host((address.host.as_str(), address.port))).await {
        Ok(Ok(found)) => {
            // Several protocols give the same address more than once.
            let mut all: Vec<SocketAddr> = Vec::new();
            found.for_each(|peer| {
                if !all.contains(&peer) {
                    all.push(peer);
                }
            });
            Ok(all)
        }
        Ok(Err(_)) => Err(unknown(address, "cannot be resolved")),
        Err(_) => Err(unknown(address, "cannot be resolved: no name server answers")),
    }
}

fn unknown(address: &Address, why: &str) -> Fault {
    Fault::new(Code::NameUnknown, format!("the name {} {why}", address.host), place(address, None))
}

/// A host as people name it, with the address behind the name.
pub(super) fn place(address: &Address, peer: Option<SocketAddr>) -> String {
    let place = format!("{} port {}", address.host, address.port);
    match peer.map(|peer| peer.ip().to_string()) {
        Some(ip) if ip != address.host => format!("{place} at {ip}"),
        _ => place,
    }
}

async fn connect(
    address: &Address,
    peer: SocketAddr,
    tls: Option<Tls>,
    (patience, limit): (Duration, Duration),
    traffic: &Traffic,
) -> Result<Link, Fault> {
    let place = place(address, Some(peer));
    let silent = |within: Duration, what: &str| {
        Fault::new(Code::Silent, format!("{what} within {} s", within.as_secs()), place.as_str())
    };
    let unusable = |error| diagnosis::io(&error, Phase::Connect, &place);
    let tcp = clock::timeout(patience, TcpStream::connect(peer)).await;
    let tcp = tcp.map_err(|_| silent(patience, "no TCP connection"))?.map_err(unusable)?;
    tcp.set_nodelay(true).map_err(unusable)?;
    let socket = socket2::SockRef::from(&tcp);
    socket.set_tcp_notsent_lowat(NOT_SENT).map_err(unusable)?;
    socket.set_tcp_user_timeout(Some(limit)).map_err(unusable)?;
    let tcp = traffic.clone().count(tcp);
    let Some((config, name)) = tls else { return Ok(Link { peer, stream: Stream::Plain(tcp) }) };
    let own_certificate = config.client_auth_cert_resolver.has_certs();
    match clock::timeout(limit, TlsConnector::from(config).connect(name, tcp)).await {
        Ok(Ok(mut stream)) => {
            // What rustls holds back is not near the wire either.
            stream.get_mut().1.set_buffer_limit(Some(NOT_SENT as usize));
            Ok(Link { peer, stream: Stream::Tls(Box::new(stream)) })
        }
        Ok(Err(error)) => Err(diagnosis::io(&error, Phase::Handshake { own_certificate }, &place)),
        Err(_) => Err(silent(limit, "the TLS handshake did not come to an end")),
    }
}

impl Link {
    /// What the platform has shown, its own certificate first; nothing without TLS.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        match &self.stream {
            Stream::Plain(_) => &[],
            Stream::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// The kernel answers nothing more on it: its queue is full.
    fn silent() -> (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr) {
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let at = full.local_addr().unwrap().as_socket().unwrap();
        let fill = || std::net::TcpStream::connect_timeout(&at, Duration::from_millis(100)).ok();
        let queue = std::iter::from_fn(fill).take(8).collect();
        (full, queue, at)
    }

    #[tokio::test]
    async fn the_addresses_behind_a_name_are_tried_in_turn_and_a_dead_one_costs_little() {
        let address = Address { host: "broker.example".into(), port: 1883, tls: false };
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (_full, _queue, dead) = silent();
        let (good, other) = (good.local_addr().unwrap(), other.local_addr().unwrap());
        let limit = Duration::from_millis(300);
        for (found, turn, opened) in [
            (vec![good], 0, Some(good)),
            (vec![refused, dead, good], 0, Some(good)),
            (vec![good, other], 0, Some(good)),
            // What failed last goes last.
            (vec![good, other], 1, Some(other)),
            (vec![good, other], 4, Some(good)),
            (vec![good, refused, dead], usize::MAX, Some(good)),
            (vec![dead, refused], 0, None),
            (vec![], 3, None),
        ] {
            let link = open_first(&address, &found, None, limit, turn, &Traffic::default()).await;
            assert_eq!(link.as_ref().ok().map(|link| link.peer), opened, "{found:?} {turn}");
        }
        let failed =
            open_first(&address, &[refused, dead], None, limit, 0, &Traffic::default()).await.err().unwrap();
        assert_eq!(failed.code, Code::Silent.id());
        assert_eq!(failed.place, "broker.example port 1883 at 127.0.0.1");
    }
}
