//! The witness: a device that pushes numbers over the test adapter and remembers which were acknowledged.

use crate::site::{PATIENCE, until};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, ErrorKind, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// One connection to the test adapter.
pub(crate) struct Pusher {
    stream: BufReader<TcpStream>,
}

/// A thread that pushes to some endpoints in turn, through every crash, never a number twice.
pub(crate) struct Witness {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Witnessed>,
}

/// What it was answered.
#[derive(Debug, Default)]
pub(crate) struct Witnessed {
    pub(crate) acknowledged: Acknowledged,
    /// Refusals, by their reason.
    pub(crate) refused: BTreeMap<String, usize>,
}

/// The acknowledged numbers of each endpoint, in order.
pub(crate) type Acknowledged = BTreeMap<String, Vec<u64>>;

impl Pusher {
    /// Connects as soon as somebody listens.
    pub(crate) fn connect(port: u16) -> Self {
        until("the test adapter listens", PATIENCE, || Self::try_connect(port).ok())
    }

    fn try_connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Pushes one number, or a range `FIRST-LAST`, and insists on the acknowledgement.
    pub(crate) fn push(&mut self, endpoint: &str, what: &str) {
        let answer = self.ask(&format!("{endpoint} {what}")).unwrap();
        assert_eq!(answer, format!("ok {what}"), "of {endpoint}");
    }

    /// Pushes one number. Returns whether it was acknowledged; it may be refused.
    pub(crate) fn try_push(&mut self, endpoint: &str, what: &str) -> bool {
        self.ask(&format!("{endpoint} {what}")).unwrap() == format!("ok {what}")
    }

    /// Pushes a sample with the member `poison`, which must be acknowledged like any other.
    pub(crate) fn poison(&mut self, endpoint: &str, number: u64) {
        let answer = self.ask(&format!("poison {endpoint} {number}")).unwrap();
        assert_eq!(answer, format!("ok {number}"), "of {endpoint}");
    }

    /// Pushes a sample with so many bytes of padding.
    pub(crate) fn push_padded(&mut self, endpoint: &str, number: u64, bytes: usize) {
        let answer = self.ask(&format!("{endpoint} {number} bytes={bytes}")).unwrap();
        assert_eq!(answer, format!("ok {number}"), "of {endpoint}");
    }

    /// Pushes a sample with these bytes as a text of this name. Returns whether it was taken.
    pub(crate) fn push_text(&mut self, endpoint: &str, number: u64, name: &str, text: &[u8]) -> bool {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{endpoint} {number} name={} text={}", hex(name.as_bytes()), hex(text));
        self.ask(&line).unwrap() == format!("ok {number}")
    }

    fn ask(&mut self, line: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        match answer.strip_suffix('\n') {
            Some(whole) => Ok(whole.trim_end().to_owned()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Witness {
    /// Starts pushing.
    pub(crate) fn start(port: u16, endpoints: Vec<String>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let over = over.clone();
            move || witness(port, &endpoints, &over)
        });
        Self { over, thread }
    }

    /// Stops pushing. The last push has been answered, or never will be.
    pub(crate) fn stop(self) -> Witnessed {
        self.over.store(true, SeqCst);
        self.thread.join().unwrap()
    }
}

fn witness(port: u16, endpoints: &[String], over: &AtomicBool) -> Witnessed {
    let mut witnessed = Witnessed::default();
    let mut connection = None;
    let mut number = 0;
    while !over.load(SeqCst) {
        let Some(pusher) = &mut connection else {
            connection = Pusher::try_connect(port).ok();
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        number += 1;
        for endpoint in endpoints {
            let urgency = if fastrand::bool() { "urgent" } else { "relaxed" };
            match pusher.ask(&format!("{endpoint} {number} {urgency}")) {
                Ok(answer) if answer == format!("ok {number}") => {
                    witnessed.acknowledged.entry(endpoint.clone()).or_default().push(number);
                }
                Ok(answer) => {
                    let reason = answer.strip_prefix(&format!("refused {number} "));
                    let reason = reason.unwrap_or_else(|| panic!("{endpoint} {number}: {answer:?}"));
                    *witnessed.refused.entry(reason.to_owned()).or_default() += 1;
                }
                Err(_) => {
                    connection = None;
                    break;
                }
            }
        }
        // A device, not a flood: the platform has to keep up.
        thread::sleep(Duration::from_millis(5));
    }
    witnessed
}
