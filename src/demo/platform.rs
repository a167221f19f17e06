//! The small platform: MQTT 3.1.1 over TLS, with 1/KP on it, and it can go away.
//!
//! rumqttc's packet codec, and nothing else of the gateway's uplink. It keeps no sessions: whoever
//! connects subscribes anew. Not here: what a request means ([`super::book`]).

use super::{
    book::{Book, Reply},
    filters::Filters,
};
use adapter_api::clock;
use bytes::BytesMut;
use rumqttc::mqttbytes::{
    self, QoS,
    v4::{
        ConnAck, ConnectReturnCode, Packet, PingResp, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode,
    },
};
use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Largest packet taken.
const LARGEST: usize = 1 << 20;
/// Read at once.
const CHUNK: usize = 8 << 10;
/// For the handshake and for CONNECT.
const OPENING: Duration = Duration::from_secs(10);
/// A platform that goes away waits so long for a request in whose middle it can go.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// The platform.
pub(super) struct Platform {
    port: u16,
    book: Arc<Mutex<Book>>,
    open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// One client.
struct Client {
    book: Arc<Mutex<Book>>,
    is_open: watch::Receiver<bool>,
    filters: Filters,
    out: BytesMut,
    last_id: u16,
    /// `None` before CONNECT.
    keep_alive: Option<Duration>,
}

/// Why a client is sent away.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] mqttbytes::Error),
    #[error("not expected here: {0}")]
    Unexpected(&'static str),
    #[error("silent for too long")]
    Silent(#[from] clock::Elapsed),
    #[error("the platform goes away")]
    Away,
}

impl Platform {
    /// Starts it, open.
    pub(super) async fn start(tls: Arc<rustls::ServerConfig>, book: Book) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let book = Arc::new(Mutex::new(book));
        let (open, is_open) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, TlsAcceptor::from(tls), book.clone(), is_open));
        Ok(Self { port, book, open, _tasks: tasks })
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Goes away, with all connections, or comes back.
    pub(super) fn set_open(&self, open: bool) {
        self.open.send_if_modified(|now| std::mem::replace(now, open) != open);
    }

    /// Whether it is there.
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// What it has written down.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(
    listener: TcpListener,
    tls: TlsAcceptor,
    book: Arc<Mutex<Book>>,
    is_open: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    loop {
        // All arms are cancel-safe.
        tokio::select! {
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                // The port stays ours while it is away, so that nobody else takes it: the door is shut at once.
                Ok((tcp, _)) if *is_open.borrow() => {
                    drop(clients.spawn(attend(tcp, tls.clone(), book.clone(), is_open.clone())));
                }
                Ok(_) => {}
                // Out of descriptors: some may be free soon.
                Err(_) => clock::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

/// Serves a client until it leaves or the platform goes away.
async fn attend(tcp: TcpStream, tls: TlsAcceptor, book: Arc<Mutex<Book>>, is_open: watch::Receiver<bool>) {
    let serving = async {
        tcp.set_nodelay(true)?;
        let stream = clock::timeout(OPENING, tls.accept(tcp)).await??;
        let (filters, out) = (Filters::default(), BytesMut::new());
        let client = Client { book, is_open: is_open.clone(), filters, out, last_id: 0, keep_alive: None };
        client.serve(stream).await
    };
    let mut closing = is_open.clone();
    let closed = async {
        drop(closing.wait_for(|open| !open).await);
        clock::sleep(LAST_REQUEST).await;
    };
    // Whatever is under way is cut off: that is the point.
    tokio::select! {
        () = closed => {}
        end = serving => if let Err(error) = end {
            tracing::debug!(%error, "the demo's platform has lost its client");
        },
    }
}

impl Client {
    async fn serve(mut self, mut stream: tokio_rustls::server::TlsStream<TcpStream>) -> Result<(), Gone> {
        let mut inbox = BytesMut::new();
        loop {
            // MQTT 3.1.1 §3.1.2.10: one and a half times the keep-alive; 0 is for ever.
            let patience = self.keep_alive.map_or(OPENING, |keep_alive| match keep_alive {
                Duration::ZERO => Duration::MAX,
                keep_alive => keep_alive.mul_f64(1.5),
            });
            inbox.reserve(CHUNK);
            if clock::timeout(patience, stream.read_buf(&mut inbox)).await?? == 0 {
                return Ok(());
            }
            loop {
                match Packet::read(&mut inbox, LARGEST) {
                    Ok(Packet::Disconnect) => return Ok(()),
                    Ok(packet) => self.take(packet)?,
                    Err(mqttbytes::Error::InsufficientBytes(_)) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if self.out.is_empty() {
                continue;
            }
            // The worst moment to go: requests are written down, and nobody hears of it.
            if !*self.is_open.borrow() {
                return Err(Gone::Away);
            }
            stream.write_all(&self.out).await?;
            stream.flush().await?;
            self.out.clear();
        }
    }

    fn take(&mut self, packet: Packet) -> Result<(), Gone> {
        match packet {
            Packet::Connect(connect) if self.keep_alive.is_none() => {
                self.keep_alive = Some(Duration::from_secs(connect.keep_alive.into()));
                ConnAck::new(ConnectReturnCode::Success, false).write(&mut self.out)?;
            }
            _ if self.keep_alive.is_none() => return Err(Gone::Unexpected("something before CONNECT")),
            Packet::Publish(publish) => self.take_publish(&publish)?,
            Packet::Subscribe(subscribe) => self.take_subscribe(&subscribe)?,
            Packet::PingReq => {
                PingResp.write(&mut self.out)?;
            }
            // Of an answer.
            Packet::PubAck(_) => {}
            _ => return Err(Gone::Unexpected("a packet that no client of this platform sends")),
        }
        Ok(())
    }

    fn take_publish(&mut self, publish: &Publish) -> Result<(), Gone> {
        if publish.qos == QoS::ExactlyOnce {
            return Err(Gone::Unexpected("quality of service 2"));
        }
        let reply =
            self.book.lock().unwrap_or_else(PoisonError::into_inner).take(&publish.topic, &publish.payload);
        if publish.qos == QoS::AtLeastOnce {
            PubAck::new(publish.pkid).write(&mut self.out)?;
        }
        match reply {
            Some(reply) if self.filters.take(&reply.topic) => self.send(reply),
            _ => Ok(()),
        }
    }

    fn take_subscribe(&mut self, subscribe: &Subscribe) -> Result<(), Gone> {
        let granted = |taken| match taken {
            true => SubscribeReasonCode::Success(QoS::AtLeastOnce),
            false => SubscribeReasonCode::Failure,
        };
        // Answers come with QoS 1, and no more than asked for may be granted.
        let asked = subscribe
            .filters
            .iter()
            .map(|filter| filter.qos != QoS::AtMostOnce && self.filters.add(&filter.path));
        let codes = asked.map(granted).collect();
        SubAck::new(subscribe.pkid, codes).write(&mut self.out)?;
        Ok(())
    }

    fn send(&mut self, reply: Reply) -> Result<(), Gone> {
        let mut publish = Publish::new(reply.topic, QoS::AtLeastOnce, reply.body);
        // Round the 65,535 of them: a client acknowledges long before.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        publish.pkid = self.last_id;
        publish.write(&mut self.out)?;
        Ok(())
    }
}
