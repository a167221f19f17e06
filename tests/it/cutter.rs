//! A TCP relay that can cut all its connections, hold back every byte, or lead elsewhere.

use crate::site::free_port;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a relay thread sleeps at most before it looks at the switches again.
const TICK: Duration = Duration::from_millis(20);

/// The relay. Ends its threads when dropped.
pub(crate) struct Cutter {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    over: AtomicBool,
    held: AtomicBool,
    cuts: AtomicUsize,
    /// Bytes that came from the near side, and from the far one.
    read: [AtomicU64; 2],
    open: Mutex<Vec<TcpStream>>,
}

impl Cutter {
    /// Relays to this port.
    pub(crate) fn start(target: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared::default());
        shared.target.store(target, SeqCst);
        let accepting = thread::spawn({
            let shared = shared.clone();
            move || accept_all(&listener, &shared)
        });
        Self { port, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection, on both sides.
    pub(crate) fn cut(&self) {
        let mut open = self.shared.open.lock().unwrap();
        if !open.is_empty() {
            self.shared.cuts.fetch_add(1, SeqCst);
        }
        for stream in open.drain(..) {
            // The other side may have been faster.
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    /// Holds back all bytes, or lets them pass again. Connections stay.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.held.store(held, SeqCst);
    }

    /// Cuts all connections and leads new ones to this port.
    pub(crate) fn lead_to(&self, target: u16) {
        self.shared.target.store(target, SeqCst);
        self.cut();
    }

    /// Bytes that came from whoever connects here, and from where it leads.
    pub(crate) fn carried(&self) -> [u64; 2] {
        [0, 1].map(|side: usize| self.shared.read[side].load(SeqCst))
    }

    /// How often connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.cuts.load(SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        self.cut();
        if let Some(accepting) = self.accepting.take() {
            // A panic there has been printed.
            let _panicked = accepting.join();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.over.load(SeqCst) {
        let Ok((near, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        // Nobody listens there: the near side sees its connection end.
        let Ok(far) = TcpStream::connect(("127.0.0.1", shared.target.load(SeqCst))) else { continue };
        near.set_nonblocking(false).unwrap();
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(TICK)).unwrap();
        }
        shared.open.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
        let ways = [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)];
        for (side, (from, to)) in ways.into_iter().enumerate() {
            let shared = shared.clone();
            thread::spawn(move || relay(from, to, side, &shared));
        }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, side: usize, shared: &Shared) {
    let mut buffer = vec![0; 16 << 10];
    while !shared.over.load(SeqCst) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                shared.read[side].fetch_add(u64::try_from(count).unwrap(), SeqCst);
                while shared.held.load(SeqCst) && !shared.over.load(SeqCst) {
                    thread::sleep(TICK);
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    for stream in [from, to] {
        // It is over, for whichever reason.
        let _gone = stream.shutdown(Shutdown::Both);
    }
}
