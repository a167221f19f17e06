//! Where devices are, and how one gets there: a TCP connection or a serial port.

use crate::{
    config::Host,
    line::{Characters, Parity},
};
use adapter_api::{
    Fault, Span,
    clock::{Elapsed, timeout},
    field,
};
use std::{fmt, future::Future, io, net::SocketAddr, path::Path, pin::Pin};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_serial::{DataBits, SerialPortBuilderExt as _, StopBits};

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
        characters: Option<Characters>,
        within: Span,
        lookup: &mut Lookup,
    ) -> Result<Box<dyn Stream>, Fault> {
        match (self, characters) {
            (Self::Tcp(host), _) => Ok(Box::new(connect(host, within, lookup).await?)),
            (Self::Serial(path), Some(characters)) => port(path, characters),
            // The configuration does not let it come so far.
            (Self::Serial(path), None) => {
                Err(Fault::new(field::PORT_FAILED, "the speed of the line is not known", path))
            }
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

fn port(path: &str, characters: Characters) -> Result<Box<dyn Stream>, Fault> {
    let port = tokio_serial::new(path, characters.baud)
        .data_bits(if characters.data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
        .parity(match characters.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
        .stop_bits(if characters.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .open_native_async();
    match port {
        Ok(port) => Ok(Box::new(port)),
        Err(error) => {
            use tokio_serial::ErrorKind as K;
            // The library calls a missing port and one in use the same.
            let (kind, what) = match error.kind {
                K::NoDevice if Path::new(path).exists() => {
                    (field::PORT_IN_USE, "another program uses the serial port")
                }
                K::NoDevice | K::Io(io::ErrorKind::NotFound) => {
                    (field::PORT_MISSING, "there is no such serial port")
                }
                K::Io(io::ErrorKind::PermissionDenied) => {
                    (field::PORT_FORBIDDEN, "the service may not open the serial port")
                }
                _ => (field::PORT_FAILED, "the serial port cannot be set up"),
            };
            Err(Fault::new(kind, what, path))
        }
    }
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
