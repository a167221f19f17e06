//! One TCP connection to a host: opens it and puts one request at a time to it.
//!
//! A connection that had any [`Trouble`] but a gateway's refusal is spoilt: an answer may still be
//! on its way and would be taken for the answer to a later request. The owner drops it.

use crate::{config::Host, plan::Block, point::Table};
use adapter_api::{
    Span,
    clock::{Elapsed, timeout},
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
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("no answer within {0}")]
    Silent(Span),
    #[error("the connection was lost")]
    Lost,
    #[error("the answer does not fit the request")]
    Mismatch,
    #[error("the gateway cannot reach it: {}", name(*.0))]
    Unreachable(ExceptionCode),
}

impl Trouble {
    /// Whether the connection may still be used.
    pub(crate) fn leaves_link(&self) -> bool {
        matches!(self, Self::Unreachable(_))
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
    /// Connects, or says in words for people why not.
    pub(crate) async fn open(host: &Host, within: Span, lookup: &mut Lookup) -> Result<Self, String> {
        let connect = async {
            let found = lookup.addresses(host).await?;
            TcpStream::connect(found.as_slice()).await
        };
        let opened = timeout(within.duration(), connect).await;
        let stream = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(words(&error)),
            Err(Elapsed) => return Err(format!("no connection within {within}")),
        };
        if let Err(error) = stream.set_nodelay(true) {
            return Err(words(&error));
        }
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

/// An exception as it is shown in a reading's quality.
pub(crate) fn name(code: ExceptionCode) -> String {
    let number = u8::from(code);
    let name = match number {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "device failure",
        5 => "acknowledged, still working",
        6 => "device busy",
        7 => "negative acknowledge",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target did not respond",
        _ => "exception",
    };
    format!("{name} (exception {number:02})")
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
