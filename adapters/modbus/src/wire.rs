//! Where devices are, and how one gets there: a TCP connection or a serial port.

use crate::{
    config::Host,
    line::{Characters, Parity},
};
use adapter_api::{
    Span,
    clock::{Elapsed, timeout},
};
use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin};
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
    /// Opens it, or says in words for people why not.
    pub(crate) async fn open(
        &self,
        characters: Option<Characters>,
        within: Span,
        lookup: &mut Lookup,
    ) -> Result<Box<dyn Stream>, String> {
        match (self, characters) {
            (Self::Tcp(host), _) => Ok(Box::new(connect(host, within, lookup).await?)),
            (Self::Serial(path), Some(characters)) => port(path, characters),
            (Self::Serial(_), None) => Err("the speed of the line is not known".to_owned()),
        }
    }
}

async fn connect(host: &Host, within: Span, lookup: &mut Lookup) -> Result<TcpStream, String> {
    let connect = async {
        let found = lookup.addresses(host).await?;
        TcpStream::connect(found.as_slice()).await
    };
    let stream = match timeout(within.duration(), connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(words(&error)),
        Err(Elapsed) => return Err(format!("no connection within {within}")),
    };
    stream.set_nodelay(true).map_err(|error| words(&error))?;
    Ok(stream)
}

fn port(path: &str, characters: Characters) -> Result<Box<dyn Stream>, String> {
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
        Err(error) => Err(match error.kind {
            tokio_serial::ErrorKind::NoDevice => {
                "there is no such port, or another program has it: is the converter plugged in?".to_owned()
            }
            tokio_serial::ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
                "no right to open the port: the service's user has to be in the group of the port, mostly \
                 `dialout`"
                    .to_owned()
            }
            tokio_serial::ErrorKind::InvalidInput => format!("the port cannot do this: {error}"),
            _ => error.to_string(),
        }),
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

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no way to this address".to_owned()
        }
        io::ErrorKind::TimedOut => "nobody answers at this address".to_owned(),
        // Names that do not resolve have no kind of their own.
        _ => error.to_string(),
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
