//! Where a simulated device listens.

use super::{
    Slave,
    request::{Garbage, Inbox},
};
use crate::frame::Framing;
use adapter_api::{Instant, clock::now};
use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_serial::{DataBits, Parity, SerialPort as _, SerialPortBuilderExt as _, SerialStream, StopBits};

/// Gateway Target Device Failed To Respond: there is no such unit behind this address.
const NO_SUCH_UNIT: u8 = 0x0b;
/// More masters than any test has.
const CONNECTIONS: usize = 64;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Modbus TCP; with port 0 the system chooses one.
    Tcp(SocketAddr),
    /// RTU on a pseudo-terminal, to which this path leads.
    Pty(PathBuf),
    /// RTU on a serial port, with 8 data bits.
    Serial {
        /// Its path.
        path: String,
        /// Bits per second.
        baud: u32,
        /// `"even"`, `"odd"` or anything else for none.
        parity: String,
        /// 1 or 2.
        stop_bits: u8,
    },
}

/// A place that is listened at.
#[derive(Debug)]
pub struct Port(Open);

#[derive(Debug)]
enum Open {
    Tcp(TcpListener, SocketAddr),
    // The other end stays open, or the first master to leave would end the line.
    Pty(SerialStream, SerialStream, Link),
    Serial(SerialStream, String),
}

/// Why nobody can listen there.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The address is not free, or not of this machine.
    #[error("cannot listen on {0}")]
    Tcp(SocketAddr, #[source] io::Error),
    /// There is something else at this path.
    #[error("{0} is there already; give a path that is free")]
    Taken(PathBuf),
    /// No pseudo-terminal.
    #[error("cannot make a pseudo-terminal at {0}")]
    Pty(PathBuf, #[source] io::Error),
    /// No such serial port, or somebody else has it.
    #[error("cannot open the serial port {0}")]
    Serial(String, #[source] tokio_serial::Error),
}

/// A path that is gone with its value.
#[derive(Debug)]
struct Link(PathBuf);

impl Port {
    /// Listens.
    pub async fn open(place: Place) -> Result<Self, PortError> {
        Ok(Self(match place {
            Place::Tcp(address) => {
                let failed = |error| PortError::Tcp(address, error);
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                Open::Tcp(listener, address)
            }
            Place::Pty(path) => {
                let failed = |error: tokio_serial::Error| PortError::Pty(path.clone(), error.into());
                let (ours, theirs) = SerialStream::pair().map_err(failed)?;
                let name = theirs.name().unwrap_or_default();
                let link = Link::new(&path, Path::new(&name))?;
                Open::Pty(ours, theirs, link)
            }
            Place::Serial { path, baud, parity, stop_bits } => {
                let port = tokio_serial::new(path.as_str(), baud)
                    .data_bits(DataBits::Eight)
                    .parity(match parity.as_str() {
                        "even" => Parity::Even,
                        "odd" => Parity::Odd,
                        _ => Parity::None,
                    })
                    .stop_bits(if stop_bits == 2 { StopBits::Two } else { StopBits::One })
                    .open_native_async();
                Open::Serial(port.map_err(|error| PortError::Serial(path.clone(), error))?, path)
            }
        }))
    }

    /// Plays the device there. Ends when a serial port does; at TCP never. To be dropped at any time.
    pub async fn serve(self, slave: Slave) -> io::Result<()> {
        let (slave, on) = (Arc::new(slave), now());
        match self.0 {
            Open::Tcp(listener, _) => {
                let mut connections = JoinSet::new();
                loop {
                    // Both arms are cancel-safe.
                    tokio::select! {
                        accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                            let (stream, _) = accepted?;
                            connections.spawn(connection(Arc::clone(&slave), stream, on));
                        }
                        // A connection that fails ends only itself.
                        Some(_) = connections.join_next() => {}
                    }
                }
            }
            Open::Pty(ours, _theirs, _link) => converse(&slave, ours, Framing::Rtu, on).await,
            Open::Serial(port, _) => converse(&slave, port, Framing::Rtu, on).await,
        }
    }
}

async fn connection(slave: Arc<Slave>, stream: TcpStream, on: Instant) -> io::Result<()> {
    stream.set_nodelay(true)?;
    converse(&slave, stream, Framing::Tcp, on).await
}

/// Answers what comes in, until nothing more does.
async fn converse(
    slave: &Slave,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    framing: Framing,
    on: Instant,
) -> io::Result<()> {
    let mut inbox = Inbox::new(framing);
    let mut bytes = [0; 512];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        inbox.handle_bytes(bytes.get(..count).unwrap_or_default());
        loop {
            let request = match inbox.poll_request() {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(Garbage) => return Ok(()),
            };
            let answer = match (request.unit == slave.unit(), framing) {
                (true, _) => slave.answer(&request.pdu, now().since(on)),
                (false, Framing::Tcp) => {
                    vec![request.pdu.first().copied().unwrap_or_default() | 0x80, NO_SUCH_UNIT]
                }
                // Somebody else's, or everybody's.
                (false, _) => continue,
            };
            stream.write_all(&request.frame(framing, &answer)).await?;
            stream.flush().await?;
        }
    }
}

impl Link {
    /// Leads a path to a terminal. What another simulator left behind when it was killed is replaced.
    fn new(path: &Path, to: &Path) -> Result<Self, PortError> {
        if path.is_symlink() && !path.exists() {
            fs::remove_file(path).map_err(|error| PortError::Pty(path.to_owned(), error))?;
        }
        match symlink(to, path) {
            Ok(()) => Ok(Self(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(PortError::Taken(path.to_owned()))
            }
            Err(error) => Err(PortError::Pty(path.to_owned(), error)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "a pseudo-terminal's path was gone already");
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Open::Tcp(_, address) => write!(f, "{address} (Modbus TCP)"),
            Open::Pty(_, _, Link(path)) => write!(f, "{} (RTU, a pseudo-terminal)", path.display()),
            Open::Serial(_, path) => write!(f, "{path} (RTU)"),
        }
    }
}
