//! Where devices are, and how one gets there: a TCP connection or a serial port ([`crate::port`]).

use crate::{config::Host, line::Line, port};
use adapter_api::{
    Fault, Span,
    clock::{Elapsed, timeout},
    field,
};
use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};

/// The one way to some devices; they share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// A TCP connection.
    Tcp(Host),
    /// A serial port, by its path.
    Serial(String),
}

/// What bytes go over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The name look-up of a connection: one at a time. A look-up cannot be stopped, and where DNS is down
/// each takes a thread for longer than we wait; the next attempt waits for the same one.
#[derive(Default)]
pub(crate) struct Lookup(Option<Addresses>);

impl Wire {
    /// Opens it, or says for people why not.
    pub(crate) async fn open(
        &self,
        line: &Line,
        within: Span,
        lookup: &mut Lookup,
    ) -> Result<Box<dyn Stream>, Fault> {
        match self {
            Self::Tcp(host) => Ok(Box::new(connect(host, within, lookup).await?)),
            Self::Serial(path) => port::open(path, line),
        }
    }
}

async fn connect(host: &Host, within: Span, lookup: &mut Lookup) -> Result<TcpStream, Fault> {
    let connect = async {
        let unknown = || {
            let what = format!("the name {} cannot be resolved", host.name);
            Fault::new(field::HOST_UNKNOWN, what, host.to_string())
        };
        let found = lookup.addresses(host).await.map_err(|_| unknown())?;
        TcpStream::connect(found.as_slice()).await.map_err(|error| refused(&error, host))
    };
    let stream = match timeout(within.duration(), connect).await {
        Ok(opened) => opened?,
        Err(Elapsed) => {
            let what = format!("no connection within {within}");
            return Err(Fault::new(field::HOST_SILENT, what, host.to_string()));
        }
    };
    stream.set_nodelay(true).map_err(|error| refused(&error, host))?;
    Ok(stream)
}

/// What an attempt to connect failed of.
fn refused(error: &io::Error, host: &Host) -> Fault {
    use io::ErrorKind as K;
    let (kind, what) = match error.kind() {
        K::ConnectionRefused => (field::HOST_REFUSED, "nothing listens there: the connection was refused"),
        K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown | K::AddrNotAvailable => {
            (field::HOST_UNREACHABLE, "there is no way to this address")
        }
        K::TimedOut => (field::HOST_SILENT, "nobody answers at this address"),
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => {
            (field::LINK_LOST, "the connection was cut as soon as it was open")
        }
        _ => (field::HOST_UNREACHABLE, "the system cannot open a connection"),
    };
    Fault::new(kind, what, host.to_string())
}

impl Lookup {
    async fn addresses(&mut self, host: &Host) -> io::Result<Vec<SocketAddr>> {
        let host = host.clone();
        let found = self.0.get_or_insert_with(|| {
            let addresses = async move { Ok(lookup_host((host.name.as_str(), host.port)).await?.collect()) };
            Box::pin(addresses) as Addresses
        });
        let found = found.await;
        self.0 = None;
        found
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => host.fmt(f),
            Self::Serial(path) => path.fmt(f),
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lookup").field(&self.0.is_some()).finish()
    }
}
