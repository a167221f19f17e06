//! What `tests/fuzz/targets/broker.rs` drives: a connection that hears whatever a broker may send.

use super::mqtt::{Broken, Connection, Event, Settings};
use crate::dialect::{Frame, Path, Qos};
use adapter_api::Instant;
use bytes::BytesMut;
use std::time::Duration;

/// Publishes in the air; their tags are 0 to one less.
pub const IN_THE_AIR: u16 = 3;

/// What was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Tags of confirmed publishes, in order.
    pub acked: Vec<u16>,
    /// Topics and bodies of what came in.
    pub inbound: Vec<(String, Vec<u8>)>,
    /// Answers to the one subscription.
    pub answers: usize,
    /// All bytes the connection sends.
    pub sent: Vec<u8>,
    /// Why it ended, if it did.
    pub broken: Option<String>,
}

/// Lets a connection with three publishes and a subscription hear these pieces.
pub fn hear(pieces: &[&[u8]]) -> Heard {
    let now = Instant::from_start(Duration::ZERO);
    let seconds = Duration::from_secs(30);
    let settings = Settings {
        client_id: "fuzz".into(),
        login: None,
        keep_alive: seconds,
        keeps_session: true,
        confirm_timeout: seconds,
    };
    let mut connection = Connection::open(now, settings);
    let path = Path::open("kp1/x");
    for tag in 0..IN_THE_AIR {
        let frame = Frame { path: path.clone(), body: b"[]".to_vec(), qos: Qos::AtLeastOnce };
        // There are as many packet ids.
        let _free = connection.publish(now, tag, frame);
    }
    connection.subscribe(now, 0, &[path]);
    let mut heard = Heard::default();
    let mut inbox = BytesMut::new();
    for piece in pieces {
        inbox.extend_from_slice(piece);
        let result: Result<(), Broken> = connection.handle_bytes(now, &mut inbox);
        heard.sent.extend(connection.outgoing());
        connection.handle_written(now, usize::MAX);
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Acked(tag) => heard.acked.push(tag),
                Event::Inbound(topic, body) => heard.inbound.push((topic.expose().to_owned(), body)),
                Event::Subscribed(..) => heard.answers += 1,
                Event::Connected | Event::Written(_) | Event::Unsubscribed(_) => {}
            }
        }
        if let Err(broken) = result {
            heard.broken = Some(broken.to_string());
            break;
        }
    }
    heard
}
