//! A TCP relay that is slow and far away: so many bytes per second, so long on the way, and stalls
//! as retransmissions make them where packets are lost.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What the line is like.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) bytes_per_s: u32,
    pub(crate) delay: Duration,
    /// The share of segments that come only after a retransmission time-out, or two, or three.
    pub(crate) loss: f64,
    pub(crate) segment: usize,
}

/// The first retransmission time-out; it doubles (RFC 6298 §5.5, Linux's least).
const RTO: Duration = Duration::from_millis(200);

/// Relays to this port; returns where it listens. Its threads end with the test's process.
pub(crate) fn start(target: u16, line: Line) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
            for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                // Little room: what a modem buffers is not near the wire.
                let _best = socket2::SockRef::from(&from).set_recv_buffer_size(4 << 10);
                from.set_nodelay(true).unwrap();
                relay(from, to, line);
            }
        }
    });
    port
}

fn relay(mut from: TcpStream, mut to: TcpStream, line: Line) {
    let Line { bytes_per_s, delay, loss, segment } = line;
    let (way, arrivals) = mpsc::sync_channel::<(Instant, Vec<u8>)>(64);
    thread::spawn(move || {
        let mut buffer = vec![0; segment];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = u32::try_from(count).unwrap();
            thread::sleep(Duration::from_secs(1) * bytes / bytes_per_s);
            if way.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
        let _gone = from.shutdown(Shutdown::Read);
    });
    thread::spawn(move || {
        for (at, bytes) in arrivals {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            // What follows waits behind it, as TCP does.
            let mut rto = RTO;
            while fastrand::f64() < loss {
                thread::sleep(rto);
                rto *= 2;
            }
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _gone = to.shutdown(Shutdown::Both);
    });
}
