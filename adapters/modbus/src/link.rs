//! One TCP connection to a host: opens it and puts one request at a time to it.
//!
//! A connection that had any [`Trouble`] but a gateway's refusal is spoilt: an answer may still be
//! on its way and would be taken for the answer to a later request. The owner drops it.

use crate::{config::Host, fault, plan::Block, point::Table};
use adapter_api::{
    Fault, Span,
    clock::{Elapsed, timeout},
    field,
};
use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin};
use tokio::net::{TcpStream, lookup_host};
use tokio_modbus::{
    Error, ExceptionCode, Request, Response, Slave,
    client::{Client, Context, tcp},
    slave::SlaveContext,
};

/// An open connection.
pub(crate) struct Link {
    context: Context,
    /// Whether it has ever brought an answer: one that has may have been closed for idleness.
    pub(crate) proven: bool,
}

type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The name look-up of a connection: one at a time. A look-up cannot be stopped, and where DNS is down
/// each takes a thread for longer than we wait; the next attempt waits for the same one.
#[derive(Default)]
pub(crate) struct Lookup(Option<Addresses>);

/// What a device said to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The entries of a table of bits.
    Bits(Vec<bool>),
    /// The entries of a table of registers.
    Words(Vec<u16>),
    /// A Modbus exception.
    Refused(ExceptionCode),
}

/// Why a device gave no usable answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing came for so long.
    Silent(Span),
    /// The connection ended.
    Lost,
    /// The answer does not fit the request.
    Mismatch,
    /// A gateway cannot reach it.
    Unreachable(ExceptionCode),
}

impl Trouble {
    /// Whether the connection may still be used.
    pub(crate) fn leaves_link(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// For people.
    pub(crate) fn fault(&self, place: String) -> Fault {
        match self {
            Self::Silent(within) => fault::silent(*within, place),
            Self::Lost => fault::lost(place),
            Self::Mismatch => fault::mismatch(place),
            Self::Unreachable(code) => fault::unreachable(*code, place),
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lookup").field(&self.0.is_some()).finish()
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

impl Link {
    /// Connects, or says for people why not.
    pub(crate) async fn open(host: &Host, within: Span, lookup: &mut Lookup) -> Result<Self, Fault> {
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
        Ok(Self { context: tcp::attach(stream), proven: false })
    }

    /// Puts one request and waits for its answer.
    pub(crate) async fn read(&mut self, unit: u8, block: &Block, within: Span) -> Result<Answer, Trouble> {
        self.context.set_slave(Slave(unit));
        // Not by the library's read functions: they assert the number of registers in the answer.
        let request = match block.table {
            Table::Coil => Request::ReadCoils(block.start, block.length),
            Table::Discrete => Request::ReadDiscreteInputs(block.start, block.length),
            Table::Holding => Request::ReadHoldingRegisters(block.start, block.length),
            Table::Input => Request::ReadInputRegisters(block.start, block.length),
        };
        let answer = match timeout(within.duration(), self.context.call(request)).await {
            Err(Elapsed) => return Err(Trouble::Silent(within)),
            Ok(Err(Error::Protocol(_))) => return Err(Trouble::Mismatch),
            Ok(Err(Error::Transport(error))) => return Err(trouble(&error)),
            Ok(Ok(answer)) => answer,
        };
        let length = usize::from(block.length);
        let answer = match (answer, block.table) {
            (Err(code @ (ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice)), _) => {
                return Err(Trouble::Unreachable(code));
            }
            (Err(code), _) => Answer::Refused(code),
            (Ok(Response::ReadCoils(bits)), Table::Coil)
            | (Ok(Response::ReadDiscreteInputs(bits)), Table::Discrete)
                // Bits come in whole bytes.
                if bits.len() == length.next_multiple_of(8) =>
            {
                Answer::Bits(bits)
            }
            (Ok(Response::ReadHoldingRegisters(words)), Table::Holding)
            | (Ok(Response::ReadInputRegisters(words)), Table::Input)
                if words.len() == length =>
            {
                Answer::Words(words)
            }
            _ => return Err(Trouble::Mismatch),
        };
        self.proven = true;
        Ok(answer)
    }
}

/// Whether a smaller request might be answered.
pub(crate) fn is_about_addresses(code: ExceptionCode) -> bool {
    matches!(code, ExceptionCode::IllegalDataAddress | ExceptionCode::IllegalDataValue)
}

/// The library's error of a closed connection is whatever the system's last error was, so the rest
/// of its errors is not shown either.
fn trouble(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Trouble::Mismatch,
        _ => Trouble::Lost,
    }
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
