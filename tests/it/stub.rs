//! A broker that misbehaves on demand: MQTT 3.1.1 without TLS, just enough to be refused by. Behind it is a 1/KP platform
//! that takes everything.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// How it behaves from the next packet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Answers all that comes.
    Good,
    /// CONNACK with this return code.
    ConnAck(u8),
    /// Grants no filter.
    NoFilter,
    /// Closes at a publish of more bytes.
    AtMost(usize),
    /// Closes at a publish to this topic.
    Forbids(&'static str),
    /// Lets everybody in and answers pings; says nothing to all else.
    Host,
    /// Takes everything, says nothing.
    Mute,
    /// Speaks HTTP.
    Http,
    /// Closes at the first bytes.
    Close,
    /// Resets the connection at the first bytes.
    Reset,
}

const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\n\
    Content-Length: 62\r\nConnection: close\r\n\r\n\
    <html><head><title>400 Bad Request</title></head></html>      ";

/// The broker. Its threads end with the test's process.
pub(crate) struct Stub {
    port: u16,
    manners: Arc<Mutex<Manners>>,
    over: Arc<AtomicBool>,
}

impl Stub {
    /// Listens on a port of its own.
    pub(crate) fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (manners, over) = (Arc::new(Mutex::new(manners)), Arc::new(AtomicBool::new(false)));
        let (asked, ended) = (manners.clone(), over.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(SeqCst) {
                    break;
                }
                let manners = asked.clone();
                thread::spawn(move || serve(stream, &manners));
            }
        });
        Self { port, manners, over }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Behaves like this from now on.
    pub(crate) fn behave(&self, manners: Manners) {
        *self.manners.lock().unwrap() = manners;
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        let _wakes = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, manners: &Mutex<Manners>) {
    let mut first = [0];
    while stream.read_exact(&mut first).is_ok() {
        let now = *manners.lock().unwrap();
        match now {
            Manners::Close => return,
            Manners::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            Manners::Http => {
                let _gone = stream.write_all(HTTP);
                // Closed only when the other side has: a reset would overtake the words.
                let _gone = std::io::copy(&mut stream, &mut std::io::sink());
                return;
            }
            Manners::Mute => continue,
            Manners::Good
            | Manners::ConnAck(_)
            | Manners::NoFilter
            | Manners::AtMost(_)
            | Manners::Forbids(_)
            | Manners::Host => {}
        }
        let Some(body) = body(&mut stream) else { return };
        let answer = match (first[0] >> 4, now) {
            (3, Manners::AtMost(bytes)) if body.len() > bytes => return,
            (3, Manners::Forbids(topic)) if body[2..].starts_with(topic.as_bytes()) => return,
            (1, Manners::ConnAck(code)) => vec![0x20, 2, 0, code],
            (1, _) => vec![0x20, 2, 0, 0],
            (3 | 8, Manners::Host) => Vec::new(),
            (3, _) if first[0] & 6 != 0 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let mut answer = vec![0x40, 2, body[2 + topic], body[3 + topic]];
                // To a request of 1/KP, the platform's reply.
                let reply = [&body[2..2 + topic], b"/status"].concat();
                if reply.starts_with(b"kp1/") {
                    let length = u8::try_from(reply.len()).unwrap();
                    answer.extend([0x30, length + 2, 0, length]);
                    answer.extend(reply);
                }
                answer
            }
            (8, _) => {
                let (mut at, mut codes) = (2, Vec::new());
                while at < body.len() {
                    at += 3 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
                    codes.push(if now == Manners::NoFilter { 0x80 } else { 1 });
                }
                let length = u8::try_from(codes.len() + 2).unwrap();
                [vec![0x90, length, body[0], body[1]], codes].concat()
            }
            (12, _) => vec![0xd0, 0],
            _ => Vec::new(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The rest of a packet (MQTT 3.1.1 §2.2.3).
fn body(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut length, mut shift, mut byte) = (0_usize, 0, [0]);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}
