//! The simulated site: meters behind Modbus TCP gateways on the loopback, and what was answered there.
//!
//! An answer counts when the socket has taken its bytes. If the other side then goes without having
//! read it, which TCP tells (RFC 9293 §3.6.1: a reset), it was answered to nobody and is taken back.

use super::{
    meter::{self, Meter},
    tally::Served,
};
use crate::backoff::Rng;
use adapter_api::{CancellationToken, clock};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Meters behind one gateway. Such a bus asks them one after the other.
const PER_GATEWAY: usize = 20;
/// Connections have ended when the adapters have; this is for the tasks to notice.
const ENDING: Duration = Duration::from_secs(2);

/// The site.
#[derive(Debug)]
pub(super) struct Field {
    gateways: Vec<SocketAddr>,
    served: Arc<Mutex<Served>>,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

/// What the connections of one gateway share.
#[derive(Debug)]
struct Gateway {
    /// By unit identifier, from 1.
    meters: Mutex<Vec<Meter>>,
    served: Arc<Mutex<Served>>,
}

/// A request as it came in: MODBUS Messaging on TCP/IP V1.0b §3.1.3.
#[derive(Debug)]
struct Request {
    transaction: [u8; 2],
    unit: u8,
    pdu: Vec<u8>,
}

impl Field {
    /// Opens the gateways of so many meters.
    pub(super) async fn start(meters: usize) -> io::Result<Self> {
        let served = Arc::new(Mutex::new(Served::default()));
        let (closing, mut tasks, mut gateways) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        let mut rng = Rng::new();
        for first in (0..meters).step_by(PER_GATEWAY) {
            let here = (first..meters.min(first + PER_GATEWAY)).map(|_| Meter::new(rng.fork())).collect();
            let gateway = Arc::new(Gateway { meters: Mutex::new(here), served: served.clone() });
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            gateways.push(listener.local_addr()?);
            tasks.spawn(listen(listener, gateway, closing.clone()));
        }
        Ok(Self { gateways, served, closing, tasks })
    }

    /// Where a meter is: its gateway's address and its unit identifier.
    pub(super) fn place(&self, meter: usize) -> Option<(SocketAddr, u8)> {
        let address = self.gateways.get(meter / PER_GATEWAY)?;
        Some((*address, u8::try_from(meter % PER_GATEWAY + 1).ok()?))
    }

    /// Closes the gateways and says what they answered.
    pub(super) async fn finish(mut self) -> Served {
        self.closing.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if clock::timeout(ENDING, ended).await.is_err() {
            tracing::warn!("a connection to the simulated site is still open");
        }
        *self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    fn answer(&self, request: &Request) -> meter::Answer {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = usize::from(request.unit).checked_sub(1).and_then(|index| meters.get_mut(index));
        match meter {
            Some(meter) => meter.answer(clock::now(), &request.pdu),
            None => meter::unreachable(&request.pdu),
        }
    }

    fn served(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Request {
    /// The next one; `None` where the other side has closed, or does not speak Modbus.
    async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut header = [0; 7];
        match stream.read_exact(&mut header).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        let [t0, t1, p0, p1, l0, l1, unit] = header;
        let length = u16::from_be_bytes([l0, l1]);
        if [p0, p1] != [0, 0] || !(2..=254).contains(&length) {
            return Ok(None);
        }
        let mut pdu = vec![0; usize::from(length) - 1];
        stream.read_exact(&mut pdu).await?;
        Ok(Some(Self { transaction: [t0, t1], unit, pdu }))
    }

    /// The frame of its answer.
    fn frame(&self, pdu: &[u8]) -> Vec<u8> {
        let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX).to_be_bytes();
        let header = [&self.transaction[..], &[0, 0], &length, &[self.unit]].concat();
        [&header, pdu].concat()
    }
}

async fn listen(listener: TcpListener, gateway: Arc<Gateway>, closing: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        // All arms are cancel-safe.
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(open.spawn(serve(stream, gateway.clone()))),
                // Out of descriptors: some may be free soon.
                Err(_) => clock::sleep(Duration::from_millis(100)).await,
            },
        }
    }
    while open.join_next().await.is_some() {}
}

/// Serves one connection until it ends.
async fn serve(mut stream: TcpStream, gateway: Arc<Gateway>) {
    let _delayed_at_worst = stream.set_nodelay(true);
    // Of the last answer, until the next request proves that it was read.
    let mut unproven = None;
    let ended = loop {
        let request = match Request::read(&mut stream).await {
            Ok(Some(request)) => request,
            Ok(None) => break stream.take_error().ok().flatten(),
            Err(error) => break Some(error),
        };
        unproven = None;
        let answer = gateway.answer(&request);
        if let Err(error) = stream.write_all(&request.frame(&answer.pdu)).await {
            break Some(error);
        }
        if let Some(readings) = answer.readings {
            gateway.served(|served| served.answered(readings));
            unproven = Some(readings);
        }
    };
    // A clean end says that everything was read; a reset, at once or found with the end, that it was not.
    if let (Some(error), Some(readings)) = (ended, unproven) {
        tracing::warn!(%error, "an answer of a simulated meter was not read");
        gateway.served(|served| served.unread(readings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: [u8; 12] = [0, 9, 0, 0, 0, 6, 1, 4, 0, 0, 0, 12];

    async fn asked(field: &Field, frame: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(field.place(0).unwrap().0).await.unwrap();
        stream.write_all(frame).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn answers_are_framed_and_counted() {
        let field = Field::start(1).await.unwrap();
        let mut stream = asked(&field, &ASK).await;
        let mut answer = [0; 33];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..9], [0, 9, 0, 0, 0, 27, 1, 4, 24]);
        assert_eq!(answer[29..], [0, 0, 0, 1], "the sequence comes last");
        // A meter that is not there is no sample.
        stream.write_all(&[0, 10, 0, 0, 0, 6, 2, 4, 0, 0, 0, 12]).await.unwrap();
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0, 10, 0, 0, 0, 3, 2, 0x84, 0x0B]);
        drop(stream);
        let served = field.finish().await;
        assert_eq!((served.samples, served.readings, served.unread), (1, 6, 0));
    }

    #[tokio::test]
    async fn an_answer_nobody_read_was_answered_to_nobody() {
        let field = Field::start(1).await.unwrap();
        let stream = asked(&field, &ASK).await;
        stream.readable().await.unwrap();
        drop(stream);
        let served = field.finish().await;
        assert_eq!((served.samples, served.readings, served.unread), (0, 0, 1));
    }

    #[tokio::test]
    async fn what_is_not_modbus_ends_the_connection() {
        let field = Field::start(1).await.unwrap();
        for frame in [b"GET / HTTP/1.1\r\n".as_slice(), &[0, 1, 0, 0, 0, 1, 1], &[0, 1, 0, 0, 1, 0, 1]] {
            let mut stream = asked(&field, frame).await;
            let mut nothing = Vec::new();
            let read = stream.read_to_end(&mut nothing).await;
            assert!(nothing.is_empty(), "{frame:?}: {read:?}");
        }
        assert_eq!(field.finish().await, Served::default());
    }

    #[tokio::test]
    async fn meters_are_spread_over_gateways() {
        let field = Field::start(45).await.unwrap();
        assert_eq!(field.gateways.len(), 3);
        for (meter, gateway, unit) in [(0, 0, 1), (19, 0, 20), (20, 1, 1), (44, 2, 5)] {
            assert_eq!(field.place(meter), Some((field.gateways[gateway], unit)));
        }
        assert_eq!(field.place(60), None);
    }
}
