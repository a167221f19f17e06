//! One MQTT 3.1.1 connection as a client. Sans-IO: packets in, packets and events out.
//!
//! Fresh state per connection, because confirmations must be matched to rows exactly: a packet id
//! means nothing on the next connection. It knows nothing of lanes or dialects; frames carry the
//! caller's tag.
//!
//! Deadlines that start "when it left" start at [`Connection::handle_written`].

use crate::{
    config::secret::Secret,
    dialect::{ForeignPath, Frame, Qos},
};
use adapter_api::Instant;
use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::{
    self, QoS,
    v4::{
        ConnAck, Connect, ConnectReturnCode, Disconnect, Login, Packet, PingReq, PubAck, PubComp, PubRec,
        Publish, SubAck, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// A PUBACK that so many later ones overtook will not come (a full window).
const OVERTAKEN: u64 = 256;
/// A SUBACK is missing after so many times the time allowed, whatever else comes.
const SUBACK_AT_MOST: u32 = 4;
/// Largest packet taken from the platform.
pub(crate) const MAX_INCOMING: usize = 1 << 20;

/// How a connection is opened and kept.
#[derive(Clone)]
pub(crate) struct Settings {
    /// MQTT client identifier.
    pub(crate) client_id: String,
    /// User name and password.
    pub(crate) login: Option<(String, Secret)>,
    /// Keep-alive, at most 65,535 s.
    pub(crate) keep_alive: Duration,
    /// Whether the broker keeps subscriptions, and what was published to them meanwhile.
    pub(crate) keeps_session: bool,
    /// Something due is missing for this long without any progress: the link is condemned.
    pub(crate) confirm_timeout: Duration,
}

/// What happened, to be told to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event<T> {
    /// The broker let us in.
    Connected,
    /// A QoS 1 publish was acknowledged.
    Acked(T),
    /// A QoS 0 publish left.
    Written(T),
    /// An answer to a subscription: for each filter, whether it was granted.
    Subscribed(u64, Vec<bool>),
    /// Filters that are no longer wanted are gone.
    Unsubscribed(u64),
    /// A message came in (and was acknowledged, if it asked for that).
    Inbound(ForeignPath, Vec<u8>),
}

/// Why a connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The broker refused the login or the client.
    #[error("the broker refused the connection: {0}")]
    Denied(Denied),
    /// It sent something that MQTT 3.1.1 does not allow here.
    #[error("the broker broke the protocol: {0}")]
    Protocol(&'static str),
    /// Something due did not come.
    #[error("no {0} within the time allowed")]
    Missing(&'static str),
}

/// What CONNACK refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// Return code 1.
    #[error("it does not speak MQTT 3.1.1")]
    Version,
    /// Return code 2.
    #[error("client id not allowed")]
    ClientId,
    /// Return code 3.
    #[error("service unavailable")]
    Unavailable,
    /// Return code 4.
    #[error("bad user name or password")]
    Login,
    /// Return code 5.
    #[error("not authorized")]
    NotAuthorized,
}

/// The state of one connection. `T` is the caller's tag on a publish.
pub(crate) struct Connection<T> {
    settings: Settings,
    connected: bool,
    out: BytesMut,
    /// Bytes ever put into `out`, and taken from it by the link.
    queued: u64,
    written: u64,
    marks: VecDeque<(u64, Mark<T>)>,
    /// QoS 1 publishes by packet id: tag and its place in the order of sending.
    publishes: BTreeMap<u16, (T, u64)>,
    /// Their packet ids in that order, those that are answered already among them.
    order: VecDeque<(u64, u16)>,
    /// SUBSCRIBEs by packet id: the caller's key, and when it left.
    subscribes: BTreeMap<u16, (u64, Option<Instant>)>,
    unsubscribes: BTreeMap<u16, u64>,
    last_id: u16,
    sent: u64,
    /// PUBACKs of publishes that were sent after the oldest one still open.
    overtook: u64,
    events: VecDeque<Event<T>>,
    last_progress: Instant,
    /// When something last came in that is no answer to a ping.
    last_heard: Instant,
    last_written: Instant,
    connack_due: Option<Instant>,
    ping_queued: bool,
    ping_due: Option<Instant>,
    /// Bytes of a packet that is passed over.
    skip: usize,
}

/// What is told when the bytes up to here have left.
#[derive(Debug)]
enum Mark<T> {
    Written(T),
    Subscribe(u16),
    Ping,
    /// Progress: something that is not a ping has left.
    Progress,
}

impl<T: Copy> Connection<T> {
    /// A connection whose CONNECT is ready to be sent.
    pub(crate) fn open(now: Instant, settings: Settings) -> Self {
        let mut connect = Connect::new(settings.client_id.clone());
        connect.keep_alive = u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX);
        connect.clean_session = !settings.keeps_session;
        connect.login = settings
            .login
            .clone()
            .map(|(username, password)| Login { username, password: password.expose().to_owned() });
        let mut connection = Self {
            connected: false,
            out: BytesMut::new(),
            queued: 0,
            written: 0,
            marks: VecDeque::new(),
            publishes: BTreeMap::new(),
            order: VecDeque::new(),
            subscribes: BTreeMap::new(),
            unsubscribes: BTreeMap::new(),
            last_id: 0,
            sent: 0,
            overtook: 0,
            events: VecDeque::new(),
            last_progress: now,
            last_heard: now,
            last_written: now,
            connack_due: Some(now + settings.confirm_timeout),
            ping_queued: false,
            ping_due: None,
            skip: 0,
            settings,
        };
        connection.put(Mark::Progress, |out| connect.write(out).map_err(drop));
        connection
    }

    /// Sends a frame. `Err` gives the tag back where it cannot be put into a packet at all.
    pub(crate) fn publish(&mut self, now: Instant, tag: T, frame: Frame) -> Result<(), T> {
        self.begin(now);
        let qos = match frame.qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        };
        let mut publish = Publish::new(frame.path.expose(), qos, frame.body);
        let mark = match frame.qos {
            Qos::AtMostOnce => Mark::Written(tag),
            Qos::AtLeastOnce => {
                let Some(id) = self.free_id() else { return Err(tag) };
                publish.pkid = id;
                self.sent += 1;
                self.publishes.insert(id, (tag, self.sent));
                self.order.push_back((self.sent, id));
                Mark::Progress
            }
        };
        let id = publish.pkid;
        if self.put(mark, |out| publish.write(out).map_err(drop)) {
            return Ok(());
        }
        self.publishes.remove(&id);
        Err(tag)
    }

    /// Subscribes with QoS 1; `key` comes back with the answer.
    pub(crate) fn subscribe(&mut self, now: Instant, key: u64, filters: &[crate::dialect::Path]) {
        self.begin(now);
        let Some(id) = self.free_id() else { return };
        let filters = filters
            .iter()
            .map(|path| SubscribeFilter::new(path.expose().to_owned(), QoS::AtLeastOnce))
            .collect();
        let packet = Subscribe { pkid: id, filters };
        self.subscribes.insert(id, (key, None));
        self.put(Mark::Subscribe(id), |out| packet.write(out).map_err(drop));
    }

    /// Takes filters back; `key` comes back with the answer.
    pub(crate) fn unsubscribe(&mut self, now: Instant, key: u64, filters: &[crate::dialect::Path]) {
        self.begin(now);
        let Some(id) = self.free_id() else { return };
        let topics = filters.iter().map(|path| path.expose().to_owned()).collect();
        let packet = Unsubscribe { pkid: id, topics };
        self.unsubscribes.insert(id, key);
        self.put(Mark::Progress, |out| packet.write(out).map_err(drop));
    }

    /// Says good-bye.
    pub(crate) fn disconnect(&mut self) {
        self.put(Mark::Progress, |out| Disconnect.write(out).map_err(drop));
    }

    /// Bytes came in; whole packets are taken out of them.
    pub(crate) fn handle_bytes(&mut self, now: Instant, inbox: &mut BytesMut) -> Result<(), Broken> {
        loop {
            let skipped = self.skip.min(inbox.len());
            inbox.advance(skipped);
            self.skip -= skipped;
            if self.skip > 0 {
                (self.last_progress, self.last_heard) = (now, now);
                return Ok(());
            }
            match Packet::read(inbox, MAX_INCOMING) {
                Ok(packet) => self.handle_packet(now, packet)?,
                Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(()),
                Err(mqttbytes::Error::PayloadSizeLimitExceeded(_)) => {
                    if !self.pass_over(inbox)? {
                        return Ok(());
                    }
                }
                Err(_) => return Err(Broken::Protocol("a packet that cannot be read")),
            }
        }
    }

    /// A packet came in.
    fn handle_packet(&mut self, now: Instant, packet: Packet) -> Result<(), Broken> {
        if !matches!(packet, Packet::PingResp) {
            // A broker that answers pings and nothing else makes no progress.
            (self.last_progress, self.last_heard) = (now, now);
        }
        match packet {
            Packet::ConnAck(ack) => return self.handle_connack(&ack),
            _ if !self.connected => return Err(Broken::Protocol("something before CONNACK")),
            Packet::PubAck(ack) => self.handle_puback(&ack),
            Packet::SubAck(ack) => self.handle_suback(&ack),
            Packet::PingResp => self.ping_due = None,
            Packet::Publish(publish) => self.handle_publish(publish)?,
            Packet::PubRel(release) => {
                self.put(Mark::Progress, |out| PubComp::new(release.pkid).write(out).map_err(drop));
            }
            Packet::UnsubAck(ack) => {
                let key = self.unsubscribes.remove(&ack.pkid);
                self.events.extend(key.map(Event::Unsubscribed));
            }
            _ => return Err(Broken::Protocol("a packet that only clients send")),
        }
        match self.overtook >= OVERTAKEN {
            true => Err(Broken::Missing("PUBACK: a full window of later ones overtook it")),
            false => Ok(()),
        }
    }

    /// The link took so many bytes of [`Connection::outgoing`].
    pub(crate) fn handle_written(&mut self, now: Instant, bytes: usize) {
        let gone = bytes.min(self.out.len());
        drop(self.out.split_to(gone));
        if self.out.is_empty() && self.out.capacity() > 1 << 16 {
            self.out = BytesMut::new();
        }
        self.written += u64::try_from(gone).unwrap_or_default();
        self.last_written = now;
        // A frame taken in part is progress too, unless only a ping is on its way.
        if gone > 0 && !matches!(self.marks.front(), Some((_, Mark::Ping))) {
            self.last_progress = now;
        }
        while self.marks.front().is_some_and(|(end, _)| *end <= self.written) {
            let Some((_, mark)) = self.marks.pop_front() else { break };
            match mark {
                Mark::Written(tag) => self.events.push_back(Event::Written(tag)),
                Mark::Subscribe(id) => {
                    if let Some((_, left)) = self.subscribes.get_mut(&id) {
                        *left = Some(now);
                    }
                }
                Mark::Ping => {
                    self.ping_queued = false;
                    self.ping_due = Some(now + self.settings.confirm_timeout);
                }
                Mark::Progress => {}
            }
        }
    }

    /// What waits to be written.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// What happened.
    pub(crate) fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// The next moment at which something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        // A ping is due only where none is under way already.
        let pings = self.connected && !self.ping_queued && self.ping_due.is_none();
        let ping = pings.then(|| self.last_written + self.settings.keep_alive);
        let stalled = self.is_due().then(|| self.last_progress + self.settings.confirm_timeout);
        [self.suback_due(), self.connack_due, self.ping_due, stalled, ping].into_iter().flatten().min()
    }

    /// Pings, and finds out what did not come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Broken> {
        let past = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if past(self.connack_due) {
            return Err(Broken::Missing("CONNACK"));
        }
        if past(self.ping_due) {
            return Err(Broken::Missing("PINGRESP"));
        }
        if past(self.suback_due()) {
            return Err(Broken::Missing("SUBACK"));
        }
        if self.is_due() && now.since(self.last_progress) >= self.settings.confirm_timeout {
            return Err(Broken::Missing("progress on the link"));
        }
        let idle = now.since(self.last_written) >= self.settings.keep_alive;
        if self.connected && idle && !self.ping_queued && self.ping_due.is_none() {
            self.begin(now);
            self.ping_queued = self.put(Mark::Ping, |out| PingReq.write(out).map_err(drop));
        }
        Ok(())
    }

    /// When a SUBACK is missing. Several SUBSCRIBEs are more than a slow link carries in the time allowed: all but
    /// the first wait in the socket, and while anything comes back they are on their way.
    fn suback_due(&self) -> Option<Instant> {
        let allowed = self.settings.confirm_timeout;
        let left = self.subscribes.values().filter_map(|(_, left)| *left).min()?;
        let longest = left + allowed.saturating_mul(SUBACK_AT_MOST);
        Some(longest.min(left.max(self.last_heard) + allowed))
    }

    /// The wait for progress begins with the first thing that is due, not in the silence before it.
    fn begin(&mut self, now: Instant) {
        if !self.is_due() {
            self.last_progress = now;
        }
    }

    fn is_due(&self) -> bool {
        !self.publishes.is_empty() || !self.subscribes.is_empty() || !self.out.is_empty()
    }

    fn handle_connack(&mut self, ack: &ConnAck) -> Result<(), Broken> {
        if self.connected {
            return Err(Broken::Protocol("a second CONNACK"));
        }
        match ack.code {
            ConnectReturnCode::Success => {
                self.connected = true;
                self.connack_due = None;
                self.events.push_back(Event::Connected);
                Ok(())
            }
            ConnectReturnCode::RefusedProtocolVersion => Err(Broken::Denied(Denied::Version)),
            ConnectReturnCode::BadClientId => Err(Broken::Denied(Denied::ClientId)),
            ConnectReturnCode::ServiceUnavailable => Err(Broken::Denied(Denied::Unavailable)),
            ConnectReturnCode::BadUserNamePassword => Err(Broken::Denied(Denied::Login)),
            ConnectReturnCode::NotAuthorized => Err(Broken::Denied(Denied::NotAuthorized)),
        }
    }

    fn handle_puback(&mut self, ack: &PubAck) {
        // An id that is not ours confirms nothing.
        let Some((tag, order)) = self.publishes.remove(&ack.pkid) else { return };
        while let Some((sent, id)) = self.order.front()
            && self.publishes.get(id).is_none_or(|(_, order)| order != sent)
        {
            self.order.pop_front();
        }
        self.overtook = match self.order.front() {
            Some((oldest, _)) if *oldest < order => self.overtook + 1,
            _ => 0,
        };
        self.events.push_back(Event::Acked(tag));
    }

    fn handle_suback(&mut self, ack: &SubAck) {
        if let Some((key, _)) = self.subscribes.remove(&ack.pkid) {
            let granted =
                ack.return_codes.iter().map(|code| matches!(code, SubscribeReasonCode::Success(_))).collect();
            self.events.push_back(Event::Subscribed(key, granted));
        }
    }

    fn handle_publish(&mut self, publish: Publish) -> Result<(), Broken> {
        self.acknowledge(publish.qos, publish.pkid)?;
        self.events.push_back(Event::Inbound(ForeignPath::new(publish.topic), publish.payload.to_vec()));
        Ok(())
    }

    /// Whatever a persistent session holds is acknowledged, wanted or not: it would come again on every
    /// connection, and one we cannot take would end each of them.
    fn acknowledge(&mut self, qos: QoS, id: u16) -> Result<(), Broken> {
        match qos {
            QoS::AtMostOnce => {}
            _ if id == 0 => return Err(Broken::Protocol("a publish without packet id")),
            QoS::AtLeastOnce => {
                self.put(Mark::Progress, |out| PubAck::new(id).write(out).map_err(drop));
            }
            QoS::ExactlyOnce => {
                self.put(Mark::Progress, |out| PubRec::new(id).write(out).map_err(drop));
            }
        }
        Ok(())
    }

    /// Begins to pass over a publish that is larger than we take: acknowledged and not looked at.
    /// Returns whether enough of it is there to do so.
    fn pass_over(&mut self, bytes: &[u8]) -> Result<bool, Broken> {
        let too_large = Broken::Protocol("a packet too large that is no publish");
        let first = bytes.first().copied().unwrap_or_default();
        if first >> 4 != 3 {
            return Err(too_large);
        }
        // MQTT 3.1.1 §2.2.3: the remaining length, 7 bits a byte, least first.
        let (mut length, mut header) = (0_usize, 1);
        for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * index);
            header += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let two = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let Some(topic) = two(header) else { return Ok(false) };
        let qos = match first >> 1 & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return Err(Broken::Protocol("a publish of QoS 3")),
        };
        let Some(id) = two(header + 2 + usize::from(topic)) else { return Ok(false) };
        self.acknowledge(qos, id)?;
        self.skip = header + length;
        self.events.push_back(Event::Inbound(ForeignPath::new(String::new()), Vec::new()));
        Ok(true)
    }

    /// The next packet id not in use; `None` with 65,535 in use.
    fn free_id(&mut self) -> Option<u16> {
        for _ in 0..=u16::MAX {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = &self.last_id;
            let used = self.publishes.contains_key(id)
                || self.subscribes.contains_key(id)
                || self.unsubscribes.contains_key(id);
            if !used {
                return Some(self.last_id);
            }
        }
        None
    }

    fn put(&mut self, mark: Mark<T>, write: impl FnOnce(&mut BytesMut) -> Result<usize, ()>) -> bool {
        let before = self.out.len();
        if write(&mut self.out).is_err() {
            self.out.truncate(before);
            return false;
        }
        self.queued += u64::try_from(self.out.len() - before).unwrap_or_default();
        self.marks.push_back((self.queued, mark));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Path;
    use rumqttc::mqttbytes::v4::PubRel;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(1_000 + seconds))
    }

    /// A connection the broker let in, with everything written.
    fn connected() -> Connection<u32> {
        let settings = Settings {
            client_id: "gw".into(),
            login: None,
            keep_alive: Duration::from_secs(60),
            keeps_session: true,
            confirm_timeout: TIMEOUT,
        };
        let mut connection = Connection::open(at(0), settings);
        write_all(&mut connection, at(0));
        let ack = ConnAck { session_present: true, code: ConnectReturnCode::Success };
        connection.handle_packet(at(0), Packet::ConnAck(ack)).unwrap();
        assert_eq!(events(&mut connection), [Event::Connected]);
        connection
    }

    fn write_all(connection: &mut Connection<u32>, now: Instant) -> Vec<Packet> {
        let mut bytes = BytesMut::from(connection.outgoing());
        connection.handle_written(now, bytes.len());
        std::iter::from_fn(|| Packet::read(&mut bytes, 1 << 20).ok()).collect()
    }

    fn events(connection: &mut Connection<u32>) -> Vec<Event<u32>> {
        std::iter::from_fn(|| connection.poll_event()).collect()
    }

    fn frame(qos: Qos) -> Frame {
        Frame { path: Path::open("t"), body: b"x".to_vec(), qos }
    }

    #[test]
    fn a_puback_confirms_its_own_publish_only_and_once() {
        let mut connection = connected();
        connection.publish(at(1), 7, frame(Qos::AtLeastOnce)).unwrap();
        connection.publish(at(1), 8, frame(Qos::AtLeastOnce)).unwrap();
        let sent = write_all(&mut connection, at(1));
        let [Packet::Publish(first), Packet::Publish(second)] = sent.as_slice() else { panic!("{sent:?}") };
        for id in [second.pkid, second.pkid, 999, 0] {
            connection.handle_packet(at(2), Packet::PubAck(PubAck::new(id))).unwrap();
        }
        assert_eq!(events(&mut connection), [Event::Acked(8)]);
        connection.handle_packet(at(2), Packet::PubAck(PubAck::new(first.pkid))).unwrap();
        assert_eq!(events(&mut connection), [Event::Acked(7)]);
    }

    #[test]
    fn a_publish_of_qos_0_is_told_when_it_left() {
        let mut connection = connected();
        connection.publish(at(1), 7, frame(Qos::AtMostOnce)).unwrap();
        let length = connection.outgoing().len();
        connection.handle_written(at(1), length - 1);
        assert_eq!(events(&mut connection), []);
        connection.handle_written(at(1), 1);
        assert_eq!(events(&mut connection), [Event::Written(7)]);
    }

    #[test]
    fn a_publish_overtaken_by_a_full_window_condemns_the_link() {
        let mut connection = connected();
        for tag in 0..300 {
            connection.publish(at(1), tag, frame(Qos::AtLeastOnce)).unwrap();
        }
        write_all(&mut connection, at(1));
        let mut ended = Ok(());
        for id in 2..=257 {
            assert_eq!(ended, Ok(()), "before {id}");
            ended = connection.handle_packet(at(1), Packet::PubAck(PubAck::new(id)));
        }
        assert!(matches!(ended, Err(Broken::Missing(_))), "{ended:?}");
    }

    #[test]
    fn silence_is_no_failure_until_something_is_due() {
        let mut connection = connected();
        // Keep-alive: a ping after 60 s, nothing before.
        assert_eq!(connection.poll_timeout(), Some(at(60)));
        connection.handle_timeout(at(60)).unwrap();
        assert_eq!(write_all(&mut connection, at(60)), [Packet::PingReq]);
        connection.handle_packet(at(61), Packet::PingResp).unwrap();
        // The wait for a confirmation begins with the publish, not in the silence before it.
        connection.publish(at(110), 7, frame(Qos::AtLeastOnce)).unwrap();
        write_all(&mut connection, at(110));
        connection.handle_timeout(at(139)).unwrap();
        assert_eq!(connection.poll_timeout(), Some(at(140)));
        assert_eq!(connection.handle_timeout(at(140)), Err(Broken::Missing("progress on the link")));
    }

    #[test]
    fn a_broker_that_answers_pings_only_is_left() {
        let mut connection = connected();
        connection.settings.keep_alive = Duration::from_secs(10);
        connection.publish(at(1), 7, frame(Qos::AtLeastOnce)).unwrap();
        let mut ended = Ok(());
        for second in 1..60 {
            write_all(&mut connection, at(second));
            if second % 10 == 0 {
                connection.handle_packet(at(second), Packet::PingResp).unwrap();
            }
            ended = connection.handle_timeout(at(second));
            if ended.is_err() {
                assert!((30..=32).contains(&second), "{second}");
                break;
            }
        }
        assert_eq!(ended, Err(Broken::Missing("progress on the link")));
    }

    #[test]
    fn a_missing_pingresp_counts_from_the_moment_the_ping_left() {
        let mut connection = connected();
        connection.handle_timeout(at(60)).unwrap();
        // The socket takes it 20 s later.
        connection.handle_timeout(at(80)).unwrap();
        write_all(&mut connection, at(80));
        connection.handle_timeout(at(109)).unwrap();
        assert_eq!(connection.handle_timeout(at(110)), Err(Broken::Missing("PINGRESP")));
    }

    #[test]
    fn a_missing_suback_condemns_the_link_and_a_refused_filter_is_told() {
        let mut connection = connected();
        connection.subscribe(at(1), 5, &[Path::open("a"), Path::open("b")]);
        connection.subscribe(at(1), 6, &[Path::open("c")]);
        let sent = write_all(&mut connection, at(1));
        let [Packet::Subscribe(first), Packet::Subscribe(_)] = sent.as_slice() else { panic!("{sent:?}") };
        let codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce), SubscribeReasonCode::Failure];
        connection.handle_packet(at(20), Packet::SubAck(SubAck::new(first.pkid, codes))).unwrap();
        assert_eq!(events(&mut connection), [Event::Subscribed(5, vec![true, false])]);
        connection.handle_timeout(at(49)).unwrap();
        assert_eq!(connection.poll_timeout(), Some(at(50)));
        assert_eq!(connection.handle_timeout(at(50)), Err(Broken::Missing("SUBACK")));
    }

    /// What the broker says of a packet id.
    type Says = fn(u16) -> Packet;

    /// Four SUBSCRIBEs leave at 0 s, and the broker says these things at these seconds. When the connection is
    /// condemned, if it is within 200 s.
    fn lasts(hears: &[(u64, Says)]) -> Result<(), (u64, Broken)> {
        let mut connection = connected();
        for key in 0..4 {
            connection.subscribe(at(0), key, &[Path::open("a")]);
        }
        let sent = write_all(&mut connection, at(0));
        assert_eq!(sent.len(), 4);
        let mut hears = hears.iter().peekable();
        for second in 0..200 {
            while let Some((_, packet)) = hears.next_if(|(when, _)| *when == second) {
                let answered = 4 - connection.subscribes.len();
                let Packet::Subscribe(next) = &sent[answered.min(3)] else { panic!("{sent:?}") };
                connection.handle_packet(at(second), packet(next.pkid)).unwrap();
            }
            if !connection.outgoing().is_empty() {
                assert_eq!(write_all(&mut connection, at(second)), [Packet::PingReq]);
                connection.handle_packet(at(second), Packet::PingResp).unwrap();
            }
            let due = connection.poll_timeout();
            let ended = connection.handle_timeout(at(second));
            assert!(ended.is_ok() || due.is_some_and(|due| due <= at(second)), "{second}: nobody looks");
            ended.map_err(|broken| (second, broken))?;
        }
        Ok(())
    }

    #[test]
    fn subacks_of_a_slow_link_may_come_one_by_one_and_not_for_ever() {
        let suback: fn(u16) -> Packet =
            |id| Packet::SubAck(SubAck::new(id, vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)]));
        let other: fn(u16) -> Packet = |_| Packet::Publish(Publish::new("t", QoS::AtMostOnce, b"x".to_vec()));
        let missing = |second| Err((second, Broken::Missing("SUBACK")));
        // 8 KiB each on 1 kB/s.
        assert_eq!(lasts(&[8, 16, 25, 33].map(|second| (second, suback))), Ok(()));
        assert_eq!(lasts(&[]), missing(30), "silence");
        assert_eq!(lasts(&[8, 16, 25].map(|second| (second, suback))), missing(55), "silence later");
        let chatter: Vec<_> = (1..20).map(|n| (n * 10, other)).collect();
        assert_eq!(lasts(&chatter), missing(120), "it says this and that, and not whether it granted them");
    }

    #[test]
    fn what_comes_in_is_acknowledged_and_handed_on() {
        let mut connection = connected();
        let mut publish = Publish::new("kp1/x", QoS::AtLeastOnce, b"body".to_vec());
        publish.pkid = 9;
        connection.handle_packet(at(1), Packet::Publish(publish.clone())).unwrap();
        assert_eq!(
            events(&mut connection),
            [Event::Inbound(ForeignPath::new("kp1/x".into()), b"body".to_vec())]
        );
        assert_eq!(write_all(&mut connection, at(1)), [Packet::PubAck(PubAck::new(9))]);
        publish.qos = QoS::ExactlyOnce;
        connection.handle_packet(at(1), Packet::Publish(publish)).unwrap();
        connection.handle_packet(at(1), Packet::PubRel(PubRel::new(9))).unwrap();
        let answers = [Packet::PubRec(PubRec::new(9)), Packet::PubComp(PubComp::new(9))];
        assert_eq!(write_all(&mut connection, at(1)), answers);
    }

    #[test]
    fn a_message_too_large_is_acknowledged_and_passed_over() {
        let mut connection = connected();
        let mut large = Publish::new("t", QoS::AtLeastOnce, vec![7; MAX_INCOMING + 5]);
        large.pkid = 0x0102;
        let mut small = Publish::new("t", QoS::AtMostOnce, b"x".to_vec());
        small.pkid = 0;
        let mut bytes = BytesMut::new();
        large.write(&mut bytes).unwrap();
        small.write(&mut bytes).unwrap();
        // In pieces, as a socket brings it.
        let mut inbox = BytesMut::new();
        for piece in [1, 2, 3, 4, 5, 100_000, 900_000, usize::MAX] {
            inbox.extend_from_slice(&bytes.split_to(piece.min(bytes.len())));
            connection.handle_bytes(at(1), &mut inbox).unwrap();
        }
        assert!(inbox.is_empty());
        let heard = [
            Event::Inbound(ForeignPath::new(String::new()), Vec::new()),
            Event::Inbound(ForeignPath::new("t".into()), b"x".to_vec()),
        ];
        assert_eq!(events(&mut connection), heard);
        assert_eq!(write_all(&mut connection, at(1)), [Packet::PubAck(PubAck::new(0x0102))]);
    }

    #[test]
    fn nothing_is_due_twice_while_a_ping_is_under_way() {
        let mut connection = connected();
        connection.handle_timeout(at(60)).unwrap();
        // Not yet written: only the stalled link is due.
        assert_eq!(connection.poll_timeout(), Some(at(90)));
        write_all(&mut connection, at(61));
        assert_eq!(connection.poll_timeout(), Some(at(91)));
    }

    #[test]
    fn a_refused_connection_says_why() {
        let mut connection = connected();
        connection.connected = false;
        let ack = ConnAck { session_present: false, code: ConnectReturnCode::BadUserNamePassword };
        let refused = connection.handle_packet(at(1), Packet::ConnAck(ack)).unwrap_err();
        assert_eq!(refused.to_string(), "the broker refused the connection: bad user name or password");
    }
}
