//! One session: the only place of the uplink that awaits. It carries packets between the link and the
//! connection's machine, events between the store and the engine, and reconnects for ever.

use super::{
    Question, SessionStatus, State,
    diagnosis::{self, Phase},
    engine::{Engine, Output},
    link::{self, Link},
    mqtt::{self, Broken, Connection},
    outflow::PartId,
    redial::{Ended, Redial},
    traffic::Traffic,
};
use crate::{
    backoff::Rng,
    config::{Address, UplinkConfig, secret::Secret},
    endpoints::Directory,
    failpoint::{self, Point},
    fault::{Code, Fault},
    store::{Closed, Event, Store},
    trust,
};
use adapter_api::{CancellationToken, Instant, clock, journal};
use bytes::BytesMut;
use std::{future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
};

/// Time for the confirmations of what is in the air when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// Room for one read of the socket.
const READ: usize = 8 << 10;
/// After the connection broke while something was written: how long it is listened to for the reason.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Store events taken in one turn, so that the link gets its turn too.
const EVENTS: usize = 256;

/// A session and what it needs.
pub(super) struct Session {
    pub(super) config: UplinkConfig,
    pub(super) client_id: String,
    pub(super) engine: Engine,
    pub(super) store: Store,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) questions: mpsc::Receiver<Question>,
    /// The endpoints it carries, as they change.
    pub(super) directories: watch::Receiver<Arc<Directory>>,
    pub(super) shutdown: CancellationToken,
    pub(super) rng: Rng,
    pub(super) status: SessionStatus,
    /// What went over its connections.
    pub(super) traffic: Traffic,
    /// Since when the broker has let us in.
    pub(super) up_since: Option<Instant>,
    /// Since when there is a connection, or none.
    pub(super) since: Instant,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The daemon stops.
    Shutdown,
    /// The store has ended.
    Store(Closed),
    /// Something that was due did not come: another is opened.
    Missing(Fault),
    /// Anything else: likewise.
    Fault(Fault),
}

impl From<Closed> for End {
    fn from(closed: Closed) -> Self {
        Self::Store(closed)
    }
}

/// What went wrong on an open connection.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("{1}")]
    Renew(Code, &'static str),
    #[error(transparent)]
    Store(#[from] Closed),
    #[error("the gateway stops")]
    Shutdown,
}

impl Session {
    /// Connects, and connects again, until the daemon stops.
    pub(super) async fn run(mut self) -> Result<(), Closed> {
        let mut redial = Redial::new();
        loop {
            let (address, round) = redial.turn(self.config.addresses.len());
            let Some(target) = self.config.addresses.get(address).cloned() else { return Ok(()) };
            self.status.address = link::place(&target, None);
            self.up_since = None;
            let before = self.engine.counts().delivered;
            // In the next round the next one behind each name goes first.
            let end = self.connection(&target, round).await;
            let now = clock::now();
            self.engine.handle_disconnected(now);
            if self.up_since.is_some() {
                self.since = now;
            }
            self.status.state = State::Connecting;
            let ended = Ended {
                lasted: self.up_since.map(|since| now.since(since)),
                missing: matches!(end, End::Missing(_)),
                confirmed: self.engine.counts().delivered > before,
            };
            match end {
                End::Shutdown => return self.leave(now).await,
                End::Store(closed) => return Err(closed),
                End::Missing(fault) | End::Fault(fault) => self.report(fault),
            }
            let pause = redial.handle_end(ended, &mut self.rng);
            if self.meanwhile(clock::sleep(pause)).await?.is_none() {
                return self.leave(clock::now()).await;
            }
        }
    }

    /// One connection from its opening to its end. `turn`: see [`link::open`].
    async fn connection(&mut self, target: &Address, turn: usize) -> End {
        let (to, tls, limit) = (target.clone(), self.config.tls.clone(), self.config.confirm_timeout);
        let (clock, traffic) = (self.store.clock().clone(), self.traffic.clone());
        let link = async move { link::open(&clock, &to, &tls, limit, turn, &traffic).await };
        let link = match self.meanwhile(link).await {
            Ok(Some(Ok(link))) => link,
            Ok(Some(Err(fault))) => return End::Fault(fault),
            Ok(None) => return End::Shutdown,
            Err(closed) => return closed.into(),
        };
        failpoint::hang();
        let place = link::place(target, Some(link.peer));
        let settings = mqtt::Settings {
            client_id: self.client_id.clone(),
            login: self.config.login.as_ref().map(|login| {
                let password = login.password.clone().unwrap_or_else(|| Secret::new(""));
                failpoint::panic_with(password.expose());
                (login.username.clone(), password)
            }),
            keep_alive: self.config.keep_alive,
            keeps_session: true,
            confirm_timeout: self.config.confirm_timeout,
        };
        let mut connection = Connection::open(clock::now(), settings);
        let trouble = match self.converse(link, &mut connection).await {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        };
        // Confirmations read before the end are real.
        while let Some(event) = connection.poll_event() {
            self.engine.handle_link(clock::now(), event);
        }
        let phase = match self.up_since {
            Some(_) => Phase::Use,
            None => Phase::Login { own_certificate: self.config.tls.cert_file.is_some() && target.tls },
        };
        let hung_up = match &trouble {
            Trouble::Closed => true,
            Trouble::Io(error) => diagnosis::is_hang_up(error),
            _ => false,
        };
        let air = self.engine.outflow().air().bytes;
        if hung_up && self.engine.handle_hang_up(clock::now()) {
            return End::Fault(diagnosis::cut_off(air, &place));
        }
        match trouble {
            Trouble::Shutdown => End::Shutdown,
            Trouble::Store(closed) => End::Store(closed),
            Trouble::Broken(broken @ Broken::Missing(_)) => End::Missing(diagnosis::broken(&broken, &place)),
            Trouble::Broken(broken) => End::Fault(diagnosis::broken(&broken, &place)),
            Trouble::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                End::Missing(diagnosis::io(&error, phase, &place))
            }
            Trouble::Io(error) => End::Fault(diagnosis::io(&error, phase, &place)),
            Trouble::Closed => End::Fault(diagnosis::closed(phase, &place)),
            Trouble::Renew(code @ Code::NoReplies, why) => End::Missing(Fault::new(code, why, place)),
            Trouble::Renew(code, why) => End::Fault(Fault::new(code, why, place)),
        }
    }

    async fn converse(
        &mut self,
        link: Link,
        connection: &mut Connection<PartId>,
    ) -> Result<std::convert::Infallible, Trouble> {
        let (mut reader, mut writer) = tokio::io::split(link);
        let mut inbox = BytesMut::new();
        let mut unflushed = false;
        let mut leaving: Option<Instant> = None;
        loop {
            let now = clock::now();
            self.turn(now, connection).await?;
            let air = self.engine.outflow().air().publishes;
            if leaving.is_some_and(|until| until <= now || air == 0) {
                say_goodbye(&mut writer, connection).await?;
                return Err(Trouble::Shutdown);
            }
            let due = [connection.poll_timeout(), self.engine.poll_timeout(), leaving];
            let due = due.into_iter().flatten().min();
            inbox.reserve(READ);
            let writing = unflushed || !connection.outgoing().is_empty();
            // Every arm is cancel-safe: reads and writes take what they took, channels lose nothing.
            tokio::select! {
                read = reader.read_buf(&mut inbox) => {
                    if read? == 0 {
                        return Err(Trouble::Closed);
                    }
                    connection.handle_bytes(clock::now(), &mut inbox)?;
                }
                wrote = push(&mut writer, connection.outgoing()), if writing => {
                    unflushed = !connection.outgoing().is_empty();
                    let wrote = match wrote {
                        Ok(wrote) => wrote,
                        Err(error) => return Err(last_words(&mut reader, error).await),
                    };
                    connection.handle_written(clock::now(), wrote);
                    if !unflushed && air > 0 {
                        failpoint::pass(Point::InFlight);
                    }
                }
                event = self.events.recv() => self.take_events(event)?,
                Some(question) = self.questions.recv() => self.answer(question),
                Ok(()) = self.directories.changed() => self.adopt(),
                () = wait_until(due) => {}
                () = self.shutdown.cancelled(), if leaving.is_none() => {
                    self.engine.drain(clock::now());
                    leaving = Some(clock::now() + FAREWELL);
                }
            }
            let now = clock::now();
            self.engine.handle_timeout(now);
            connection.handle_timeout(now)?;
        }
    }

    /// Moves what can move between the machines and the store.
    async fn turn(&mut self, now: Instant, connection: &mut Connection<PartId>) -> Result<(), Trouble> {
        self.engine.handle_day(now, trust::today(self.store.clock()));
        loop {
            while let Some(event) = connection.poll_event() {
                if event == mqtt::Event::Connected {
                    self.status.state = State::Up;
                    self.up_since = Some(now);
                    self.since = now;
                    self.status.connections += 1;
                    self.status.last_error = None;
                    self.status.fault = None;
                    journal::stir();
                    // Of all others the journal tells with the fault that is over.
                    if self.status.connections == 1 {
                        tracing::info!(address = %self.status.address, "connected to the platform");
                    } else {
                        tracing::debug!(address = %self.status.address, "connected again");
                    }
                }
                self.engine.handle_link(now, event);
            }
            let Some(output) = self.engine.poll_output(now) else { return Ok(()) };
            match output {
                Output::Store(command) => self.store.ask(command).await?,
                Output::Publish(part, frame) => {
                    tracing::trace!(path = %frame.path, bytes = frame.body.len(), "published");
                    if connection.publish(now, part, frame).is_err() {
                        // All 65,535 packet ids are in use, with a window of 256: they were never freed.
                        return Err(Broken::Missing("PUBACK").into());
                    }
                }
                Output::Subscribe(key, filters) => {
                    tracing::trace!(?filters, "subscribed");
                    connection.subscribe(now, key, &filters);
                }
                Output::Unsubscribe(key, filters) => {
                    tracing::trace!(?filters, "unsubscribed");
                    connection.unsubscribe(now, key, &filters);
                }
                Output::Renew(code, why) => return Err(Trouble::Renew(code, why)),
            }
        }
    }

    /// Tells the store the last of what is known: proofs and returned rows.
    async fn leave(&mut self, now: Instant) -> Result<(), Closed> {
        while let Some(output) = self.engine.poll_output(now) {
            if let Output::Store(command) = output {
                self.store.ask(command).await?;
            }
        }
        Ok(())
    }

    /// Waits for something while there is no connection; `None` if the daemon stops.
    async fn meanwhile<F: Future>(&mut self, future: F) -> Result<Option<F::Output>, Closed> {
        let mut future = pin!(future);
        loop {
            let now = clock::now();
            self.engine.handle_timeout(now);
            self.engine.handle_day(now, trust::today(self.store.clock()));
            self.leave(now).await?;
            let due = self.engine.poll_timeout();
            tokio::select! {
                out = &mut future => return Ok(Some(out)),
                event = self.events.recv() => self.take_events(event)?,
                Some(question) = self.questions.recv() => self.answer(question),
                Ok(()) = self.directories.changed() => self.adopt(),
                () = wait_until(due) => {}
                () = self.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    fn take_events(&mut self, first: Option<Event>) -> Result<(), Closed> {
        let now = clock::now();
        self.engine.handle_store(now, first.ok_or(Closed)?);
        for _ in 0..EVENTS {
            match self.events.try_recv() {
                Ok(event) => self.engine.handle_store(now, event),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn adopt(&mut self) {
        let directory = self.directories.borrow_and_update().clone();
        self.engine.handle_directory(clock::now(), directory);
    }

    fn answer(&mut self, question: Question) {
        let mut status = self.status.clone();
        status.for_s = clock::now().since(self.since).as_secs();
        if status.state == State::Up && self.engine.outflow().is_degraded(clock::now()) {
            status.state = State::Degraded;
            let what = "the platform refuses most of what is sent";
            status.fault = Some(Fault::new(Code::EverythingRefused, what, status.address.as_str()));
        }
        if status.state == State::Up && self.engine.hears_nothing() {
            status.state = State::Degraded;
            let what = "the broker refuses the subscription for all endpoints";
            status.fault = Some(Fault::new(Code::AllSubscriptionsRefused, what, status.address.as_str()));
        }
        status.subscribing = self.engine.is_waiting_for_subscriptions();
        status.park(self.engine.parked().into_iter().map(super::Parked::from).collect());
        status.count(self.engine.counts());
        status.budget = self.engine.spent(clock::now());
        let lanes = question.lanes.iter().map(|lane| self.engine.outflow().phase_of(*lane)).collect();
        let _gone = question.answer.send((status, lanes));
    }

    /// Shows a fault in `status`, from where the journal has it.
    fn report(&mut self, fault: Fault) {
        tracing::debug!(%fault, "no connection");
        let known = self.status.fault.replace(fault);
        if known != self.status.fault {
            self.status.last_error = self.status.fault.as_ref().map(|fault| fault.what.clone());
            journal::stir();
        }
    }
}

/// Writing failed. What the platform said before it hung up, such as a TLS alert, says more: it is read
/// if it is there.
async fn last_words(reader: &mut ReadHalf<Link>, error: std::io::Error) -> Trouble {
    let mut unread = [0; 1024];
    let listen = async {
        loop {
            match reader.read(&mut unread).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(reason) => return Some(reason),
            }
        }
    };
    match clock::timeout(LAST_WORDS, listen).await {
        Ok(Some(reason)) if reason.get_ref().is_some() => reason.into(),
        _ => error.into(),
    }
}

/// Writes some of what waits, or flushes where nothing waits. Returns how much was taken.
async fn push(writer: &mut WriteHalf<Link>, waiting: &[u8]) -> std::io::Result<usize> {
    if waiting.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    writer.write(waiting).await
}

async fn say_goodbye(
    writer: &mut WriteHalf<Link>,
    connection: &mut Connection<PartId>,
) -> std::io::Result<()> {
    connection.disconnect();
    let bye = async {
        writer.write_all(connection.outgoing()).await?;
        writer.shutdown().await
    };
    clock::timeout(FAREWELL / 4, bye).await.unwrap_or(Ok(()))
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => clock::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
