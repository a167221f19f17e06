//! TCP and TLS to the platform: opening, socket options, and what went wrong in a technician's words.

use super::tls;
use crate::config::{Address, TlsConfig};
use adapter_api::{Clock, clock};
use std::{
    io,
    path::PathBuf,
    pin::Pin,
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

/// An open connection.
pub(super) enum Link {
    /// `mqtt://`
    Plain(TcpStream),
    /// `mqtts://`
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The name has no address.
    #[error("{host} cannot be resolved: {source}")]
    Resolve { host: String, source: io::Error },
    /// TCP did not come up.
    #[error("no TCP connection to {host} port {port}: {source}")]
    Connect { host: String, port: u16, source: io::Error },
    /// Nothing happened in time.
    #[error("no answer of {host} port {port} within {seconds} s")]
    Silent { host: String, port: u16, seconds: u64 },
    /// The handshake failed.
    #[error("no TLS connection to {host} port {port}: {source}")]
    Handshake { host: String, port: u16, source: io::Error },
    /// Our own TLS files or settings do not fit together.
    #[error("TLS settings: {0}")]
    Tls(rustls::Error),
    /// A file cannot be read or holds nothing of use.
    #[error("{key}: nothing usable in {}", path.display())]
    File { key: &'static str, path: PathBuf },
    /// Neither own nor system roots.
    #[error(
        "no certificate authority to trust: name one in uplink.tls.ca_file, or install the system's ca-certificates"
    )]
    NoRoots,
    /// The host is no name for a certificate.
    #[error("{0} cannot be the name in a certificate")]
    ServerName(String),
}

/// Opens a connection, within `limit`.
pub(super) async fn open(
    clock: &Clock,
    address: &Address,
    tls: &TlsConfig,
    limit: Duration,
) -> Result<Link, LinkError> {
    let (host, port) = (address.host.clone(), address.port);
    let seconds = limit.as_secs();
    match clock::timeout(limit, connect(clock, address, tls, limit)).await {
        Ok(opened) => opened,
        Err(_) => Err(LinkError::Silent { host, port, seconds }),
    }
}

async fn connect(
    clock: &Clock,
    address: &Address,
    tls: &TlsConfig,
    limit: Duration,
) -> Result<Link, LinkError> {
    let port = address.port;
    let host = || address.host.clone();
    let found = tokio::net::lookup_host((address.host.as_str(), port)).await;
    let found: Vec<_> = found.map_err(|source| LinkError::Resolve { host: host(), source })?.collect();
    let unusable = |source| LinkError::Connect { host: host(), port, source };
    let tcp = TcpStream::connect(found.as_slice()).await.map_err(unusable)?;
    tcp.set_nodelay(true).map_err(unusable)?;
    let socket = socket2::SockRef::from(&tcp);
    socket.set_tcp_notsent_lowat(NOT_SENT).map_err(unusable)?;
    socket.set_tcp_user_timeout(Some(limit)).map_err(unusable)?;
    if !address.tls {
        return Ok(Link::Plain(tcp));
    }
    let (config, name) = tls::configure(clock, tls, address)?;
    match TlsConnector::from(config).connect(name, tcp).await {
        Ok(mut stream) => {
            // What rustls holds back is not near the wire either.
            stream.get_mut().1.set_buffer_limit(Some(NOT_SENT as usize));
            Ok(Link::Tls(Box::new(stream)))
        }
        Err(source) => Err(LinkError::Handshake { host: host(), port, source }),
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
