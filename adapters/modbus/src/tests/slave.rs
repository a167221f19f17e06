//! A Modbus TCP server that shares no code with the adapter, scripted answer by answer; and a converter
//! to a serial line.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// Which connection, from 0.
    pub(super) connection: usize,
    pub(super) unit: u8,
    pub(super) function: u8,
    pub(super) start: u16,
    pub(super) quantity: u16,
}

/// What happens then.
pub(super) enum Reply {
    /// Each entry holds its own address; a bit is set where that is odd.
    Addresses,
    Words(Vec<u16>),
    Exception(u8),
    Silence,
    Late(Duration),
    /// The right answer under another transaction's number.
    WrongTransaction,
    Hangup,
}

type Script = Arc<Mutex<dyn FnMut(Ask) -> Reply + Send>>;

/// Dropping it closes everything.
pub(super) struct Slave {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Ask>>>,
    _tasks: JoinSet<()>,
}

impl Slave {
    pub(super) async fn start(script: impl FnMut(Ask) -> Reply + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    /// RTU frames inside of a TCP connection.
    pub(super) async fn start_rtu(script: impl FnMut(Ask) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (script, log): (Script, _) = (Arc::new(Mutex::new(script)), Arc::clone(&asked));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                converse_rtu(stream, connection, script.clone(), log.clone()).await;
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    pub(super) async fn start_at(at: &str, script: impl FnMut(Ask) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::new(Mutex::new(script)), Arc::clone(&asked)));
        Self { address, asked, _tasks: tasks }
    }

    pub(super) fn asked(&self) -> Vec<Ask> {
        self.asked.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, script: Script, asked: Arc<Mutex<Vec<Ask>>>) {
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(converse(stream, connection, script.clone(), asked.clone()));
    }
}

async fn converse(mut stream: TcpStream, connection: usize, script: Script, asked: Arc<Mutex<Vec<Ask>>>) {
    let mut frame = [0; 12];
    while stream.read_exact(&mut frame).await.is_ok() {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        assert_eq!((word(2), word(4)), (0, 6), "MBAP of a read");
        let ask = Ask { connection, unit: frame[6], function: frame[7], start: word(8), quantity: word(10) };
        asked.lock().unwrap().push(ask);
        let reply = script.lock().unwrap()(ask);
        let mut transaction = word(0);
        let pdu = match reply {
            Reply::Addresses => addresses(ask),
            Reply::Words(words) => registers(ask, words),
            Reply::Exception(code) => vec![ask.function | 0x80, code],
            Reply::Silence => continue,
            Reply::Late(by) => {
                adapter_api::clock::sleep(by).await;
                addresses(ask)
            }
            Reply::WrongTransaction => {
                transaction = transaction.wrapping_sub(1);
                addresses(ask)
            }
            Reply::Hangup => return,
        };
        let mut answer = transaction.to_be_bytes().to_vec();
        answer.extend([0, 0]);
        answer.extend(u16::try_from(pdu.len() + 1).unwrap().to_be_bytes());
        answer.push(ask.unit);
        answer.extend(pdu);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn converse_rtu(mut stream: TcpStream, connection: usize, script: Script, asked: Arc<Mutex<Vec<Ask>>>) {
    let mut frame = [0; 8];
    while stream.read_exact(&mut frame).await.is_ok() {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        assert_eq!(crc(&frame), 0, "the check sum of a request");
        let ask = Ask { connection, unit: frame[0], function: frame[1], start: word(2), quantity: word(4) };
        asked.lock().unwrap().push(ask);
        let reply = script.lock().unwrap()(ask);
        let pdu = match reply {
            Reply::Addresses => addresses(ask),
            Reply::Words(words) => registers(ask, words),
            Reply::Exception(code) => vec![ask.function | 0x80, code],
            Reply::Silence | Reply::WrongTransaction => continue,
            Reply::Late(by) => {
                adapter_api::clock::sleep(by).await;
                addresses(ask)
            }
            Reply::Hangup => return,
        };
        let mut answer = vec![ask.unit];
        answer.extend(pdu);
        answer.extend(crc(&answer).to_le_bytes());
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// CRC-16/MODBUS; nothing over a frame that ends with its own.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        let crc = crc ^ u16::from(*byte);
        (0..8).fold(crc, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

pub(super) fn addresses(ask: Ask) -> Vec<u8> {
    let entries = ask.start..=ask.start + (ask.quantity - 1);
    if ask.function > 2 {
        return registers(ask, entries.collect());
    }
    let mut packed = vec![0; usize::from(ask.quantity.div_ceil(8))];
    for (n, entry) in entries.enumerate() {
        packed[n / 8] |= u8::from(entry % 2 == 1) << (n % 8);
    }
    let mut pdu = vec![ask.function, u8::try_from(packed.len()).unwrap()];
    pdu.extend(packed);
    pdu
}

fn registers(ask: Ask, words: Vec<u16>) -> Vec<u8> {
    let mut pdu = vec![ask.function, u8::try_from(2 * words.len()).unwrap()];
    pdu.extend(words.into_iter().flat_map(u16::to_be_bytes));
    pdu
}
