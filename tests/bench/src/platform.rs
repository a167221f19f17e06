//! Peers behind the broker: a 1/KP platform that only parses ids, as a process of its own, and an
//! observer of what arrives.

use crate::{
    reference::options,
    site::{Broker, Site, end},
};
use rumqttc::{AsyncClient, Event, Packet, Publish, QoS};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A running platform. Killed when dropped.
pub struct Platform(Child);

/// What came in: when, on which topic, with what in it.
pub struct Arrival {
    pub at: Instant,
    pub topic: String,
    pub body: Vec<u8>,
}

/// Someone who subscribes to everything that goes up.
pub struct Observer {
    over: Arc<AtomicBool>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    thread: Option<JoinHandle<()>>,
}

impl Platform {
    pub fn start(site: &Site, broker: &Broker) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["platform", &broker.port.to_string()]).arg(site.path("ca.pem"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the platform");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its output");
        assert_eq!(line.trim(), "ready", "the platform");
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// The platform's process: answers `PATH/ID` with `PATH/ID/status`, for ever.
pub fn serve(port: u16, ca: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, mut connection) = AsyncClient::new(options("platform", port, ca), 4_096);
        let mut told = false;
        loop {
            match connection.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // Only what a daemon asks for: the answers have one level more.
                    client.try_subscribe("kp1/+/+/+/json/+", QoS::AtLeastOnce).expect("room");
                }
                // Whoever started it listens for the first word only.
                Ok(Event::Incoming(Packet::SubAck(_))) if !std::mem::replace(&mut told, true) => {
                    println!("ready");
                    std::io::stdout().flush().expect("an output");
                }
                Ok(Event::Incoming(Packet::Publish(Publish { topic, .. }))) => {
                    let id = topic.rsplit('/').next().and_then(|id| id.parse::<u32>().ok());
                    assert!(id.is_some(), "no request id: {topic}");
                    client.try_publish(format!("{topic}/status"), QoS::AtLeastOnce, false, "").expect("room");
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
}

impl Observer {
    /// Returns when it is subscribed. It keeps bodies only where they are asked for.
    pub fn start(site: &Site, broker: &Broker, bodies: bool) -> Self {
        let (over, arrivals) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let ready = Arc::new(AtomicBool::new(false));
        let options = options("observer", broker.port, &site.path("ca.pem"));
        let thread = thread::spawn({
            let (over, arrivals, ready) = (over.clone(), arrivals.clone(), ready.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let (client, mut connection) = AsyncClient::new(options, 100);
                    client.try_subscribe("site/#", QoS::AtMostOnce).expect("room");
                    while !over.load(Relaxed) {
                        let polled =
                            tokio::time::timeout(Duration::from_millis(200), connection.poll()).await;
                        match polled {
                            Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => ready.store(true, Relaxed),
                            Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                                let (topic, body) = match bodies {
                                    true => (publish.topic, publish.payload.to_vec()),
                                    false => Default::default(),
                                };
                                let arrival = Arrival { at: Instant::now(), topic, body };
                                arrivals.lock().expect("a lock").push(arrival);
                            }
                            Ok(Err(error)) => panic!("the observer: {error}"),
                            _ => {}
                        }
                    }
                });
            }
        });
        crate::site::until("the observer listens", || ready.load(Relaxed).then_some(()));
        Self { over, arrivals, thread: Some(thread) }
    }

    pub fn count(&self) -> usize {
        self.arrivals.lock().expect("a lock").len()
    }

    /// All that arrived.
    pub fn stop(mut self) -> Vec<Arrival> {
        self.over.store(true, Relaxed);
        self.thread.take().expect("once").join().expect("the observer");
        std::mem::take(&mut self.arrivals.lock().expect("a lock"))
    }
}
