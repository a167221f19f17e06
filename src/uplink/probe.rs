//! One try on the way to a broker, step by step: its name, its port, TLS, the login. For `doctor` and `init`, beside
//! whatever runs.
//!
//! Not here: the connections the gateway works over (`session`), and what a failure means (`diagnosis`).

use super::{
    diagnosis::{self, Phase},
    link::{self, Link},
    mqtt::{Connection, Event, Settings},
    tls,
    traffic::Traffic,
};
use crate::{
    config::{Address, UplinkConfig, pem::Age, secret::Secret},
    fault::{Code, Fault},
};
use adapter_api::{Clock, clock};
use bytes::BytesMut;
use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A step of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The name has an address.
    Name,
    /// Somebody listens on the port.
    Port,
    /// The platform's certificate is good, and so is ours to the platform.
    Tls,
    /// The broker lets us in.
    Login,
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// What was found, in words; or what is wrong.
    pub found: Result<String, Fault>,
    /// For how many days the certificates of the platform are good.
    pub days_left: Option<u64>,
}

/// One try on the way to each address.
pub struct Probe<'c> {
    /// What is tried.
    pub config: &'c UplinkConfig,
    /// Who logs in: another than the gateway itself, which the broker would throw off. `None`: nobody.
    pub client_id: Option<&'c str>,
    /// How long each step may take.
    pub patience: Duration,
}

impl Probe<'_> {
    /// Goes as far as it can. Of each address the steps that were done; the last of them may have failed.
    pub async fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for address in &self.config.addresses {
            if let Err((stage, fault)) = self.walk(address, &mut steps).await {
                steps.push(Step { stage, found: Err(fault), days_left: None });
            }
        }
        steps
    }

    async fn walk(&self, address: &Address, steps: &mut Vec<Step>) -> Result<(), (Stage, Fault)> {
        let found = link::resolve(address, self.patience).await.map_err(|fault| (Stage::Name, fault))?;
        let mut good = |stage, found, days_left| steps.push(Step { stage, found: Ok(found), days_left });
        good(Stage::Name, named(address, &found), None);
        let mut link = self.open(address, &found, None).await.map_err(|fault| (Stage::Port, fault))?;
        let place = link::place(address, Some(link.peer));
        good(Stage::Port, format!("{place} accepts connections"), None);
        if address.tls {
            let clock = Clock::trusting();
            let tls = tls::configure(&clock, &self.config.tls, address);
            let tls = tls.map_err(|fault| (Stage::Tls, fault))?;
            link = self.open(address, &found, Some(tls)).await.map_err(|fault| (Stage::Tls, fault))?;
            let days_left = match tls::first_to_end(&clock, link.certificates()) {
                Some(Age::Good(days)) => Some(days),
                _ => None,
            };
            let count = link.certificates().len();
            let chain = format!("{count} certificate{}", if count == 1 { "" } else { "s" });
            let days = days_left.map_or_else(String::new, |days| format!(", good for {days} days more"));
            good(Stage::Tls, format!("{place} shows {chain}{days}"), days_left);
        }
        let Some(client_id) = self.client_id else { return Ok(()) };
        let own_certificate = address.tls && self.config.tls.cert_file.is_some();
        self.log_in(link, client_id, own_certificate, &place).await.map_err(|fault| (Stage::Login, fault))?;
        good(Stage::Login, format!("{place} lets the gateway in"), None);
        Ok(())
    }

    async fn open(
        &self,
        address: &Address,
        found: &[SocketAddr],
        tls: Option<link::Tls>,
    ) -> Result<Link, Fault> {
        link::open_first(address, found, tls, self.patience, 0, &Traffic::default()).await
    }

    /// CONNECT, CONNACK, DISCONNECT.
    async fn log_in(
        &self,
        link: Link,
        client_id: &str,
        own_certificate: bool,
        place: &str,
    ) -> Result<(), Fault> {
        let login =
            self.config.login.as_ref().map(|login| {
                (login.username.clone(), login.password.clone().unwrap_or_else(|| Secret::new("")))
            });
        let settings = Settings {
            client_id: client_id.to_owned(),
            login,
            keep_alive: self.config.keep_alive,
            keeps_session: false,
            confirm_timeout: self.patience,
        };
        let mut connection = Connection::<()>::open(clock::now(), settings);
        let phase = Phase::Login { own_certificate };
        let exchange = async {
            let (mut reader, mut writer) = tokio::io::split(link);
            let bytes = connection.outgoing().to_vec();
            // Where writing fails, the reason is what is read next.
            let wrote = match writer.write_all(&bytes).await {
                Ok(()) => writer.flush().await,
                failed => failed,
            };
            connection.handle_written(clock::now(), bytes.len());
            let mut inbox = BytesMut::new();
            while connection.poll_event() != Some(Event::Connected) {
                match (reader.read_buf(&mut inbox).await, &wrote) {
                    (Ok(0), Err(error)) => return Err(diagnosis::io(error, phase, place)),
                    (Ok(0), Ok(())) => return Err(diagnosis::closed(phase, place)),
                    (Err(error), _) => return Err(diagnosis::io(&error, phase, place)),
                    (Ok(_), _) => {}
                }
                connection
                    .handle_bytes(clock::now(), &mut inbox)
                    .map_err(|broken| diagnosis::broken(&broken, place))?;
            }
            connection.disconnect();
            // The broker has let us in; how the connection ends says nothing.
            let _ended = writer.write_all(connection.outgoing()).await;
            let _ended = writer.shutdown().await;
            Ok(())
        };
        let silent = || {
            let what = format!("no answer to the login within {} s", self.patience.as_secs());
            Fault::new(Code::Silent, what, place)
        };
        clock::timeout(self.patience, exchange).await.unwrap_or_else(|_| Err(silent()))
    }
}

fn named(address: &Address, found: &[SocketAddr]) -> String {
    let all: Vec<String> = found.iter().map(|peer| peer.ip().to_string()).collect();
    match all.as_slice() {
        [one] if *one == address.host => format!("{one} needs no name server"),
        _ => format!("{} is {}", address.host, all.join(", ")),
    }
}
