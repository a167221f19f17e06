//! A serial line with Modbus RTU slaves at the far end of a pseudo-terminal, at the pace of its speed:
//! each character takes its time, who talks at the same time as another garbles both, and a device may
//! be silent, late or babbling. The line can be noisy, and unplugged in the middle of an answer.
//!
//! Registers 0 and 1 of a unit hold the number of its answers so far (high word first), all others
//! what [`register`] says. Shares no code with the daemon. Used by the benchmarks and by `tests/it`.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use std::{
    collections::BTreeMap,
    fs,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

/// 19,200 baud, 8E1: eleven bits.
pub(crate) const CHARACTER: Duration = Duration::from_nanos(11_000_000_000 / 19_200);
/// From the end of a request to the first character of the answer.
pub(crate) const TURNAROUND: Duration = Duration::from_millis(5);

/// How a unit takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With an answer.
    Healthy,
    /// Not at all.
    Silent,
    /// With an answer, so long after its turnaround.
    Late(Duration),
    /// With 64 characters of anything.
    Babbling,
}

/// A request that reached its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) unit: u8,
    pub(crate) at: Instant,
    /// When the last character of the answer had left; none for silent and babbling units.
    pub(crate) answered: Option<Instant>,
}

/// What can be set, and what was seen.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) manners: BTreeMap<u8, Manner>,
    /// Which share of all bytes is changed, in both directions.
    pub(crate) noise: f64,
    pub(crate) asked: Vec<Asked>,
    /// Changed requests or answers whose check sum was right all the same.
    pub(crate) undetected: u64,
    /// Frames that were damaged, by noise or by two talking at once.
    pub(crate) damaged: u64,
    /// Whether the line gives back what is sent.
    pub(crate) echo: bool,
    /// How often it was unplugged in the middle of an answer.
    pub(crate) unplugged: u64,
    unplug: bool,
    over: bool,
}

/// Ends with its value.
pub(crate) struct Paced {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// Characters on their way.
struct Talk {
    bytes: Vec<u8>,
    /// The next of them.
    at: usize,
    began: Instant,
    /// Of the request it answers, in the journal.
    asked: Option<usize>,
    garbled: bool,
}

struct Line {
    link: PathBuf,
    far: OwnedFd,
    state: Arc<Mutex<State>>,
    seq: BTreeMap<u8, u32>,
    /// Of the request that comes in.
    heard: Vec<u8>,
    heard_at: Instant,
    /// Until when the master talks.
    master_until: Instant,
    talks: Vec<Talk>,
}

/// What a register holds at the `seq`-th answer of its unit.
pub(crate) fn register(unit: u8, seq: u32, address: u16) -> u16 {
    match address {
        0 => (seq >> 16) as u16,
        1 => (seq & 0xFFFF) as u16,
        _ => ((u64::from(seq) * 31 + u64::from(unit) * 7 + u64::from(address) * 1_009) & 0xFFFF) as u16,
    }
}

impl Paced {
    /// A line under this path, with these units, all healthy.
    pub(crate) fn start(link: &Path, units: impl IntoIterator<Item = u8>) -> Self {
        let manners = units.into_iter().map(|unit| (unit, Manner::Healthy)).collect();
        let state = Arc::new(Mutex::new(State { manners, ..State::default() }));
        let now = Instant::now();
        let mut line = Line {
            link: link.to_owned(),
            far: plug(link),
            state: state.clone(),
            seq: BTreeMap::new(),
            heard: Vec::new(),
            heard_at: now,
            master_until: now,
            talks: Vec::new(),
        };
        let thread = thread::spawn(move || while line.turn() {});
        Self { state, thread: Some(thread) }
    }

    /// The state, locked: the line stands still meanwhile.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unplugs it in the middle of the next answer, and plugs it in again.
    #[cfg(test)]
    pub(crate) fn unplug(&self) {
        self.state().unplug = true;
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.state().over = true;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Line {
    /// One step; `false` at the end.
    fn turn(&mut self) -> bool {
        let state = self.state.clone();
        let due = self.talks.iter().filter_map(Talk::due).min();
        let now = Instant::now();
        // Often enough to see that it is over.
        let wait = due.map_or(Duration::from_millis(20), |due| due.saturating_duration_since(now));
        let ready = self.wait(wait);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if ready {
            self.hear(&mut state);
        }
        self.talk(&mut state);
        if std::mem::take(&mut state.unplug) {
            if self.in_the_middle() {
                state.unplugged += 1;
                self.replug();
            } else {
                state.unplug = true;
            }
        }
        !state.over
    }

    /// Whether something came in.
    fn wait(&self, length: Duration) -> bool {
        let length = length.min(Duration::from_millis(20));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(length.subsec_nanos()) };
        let mut fds = [PollFd::new(&self.far, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timeout)).unwrap_or(0) > 0;
        let [fd] = &fds;
        if ready && !fd.revents().contains(PollFlags::IN) {
            // Nobody has the near end open.
            sleep(Duration::from_millis(1));
            return false;
        }
        ready
    }

    fn hear(&mut self, state: &mut State) {
        let mut bytes = [0; 256];
        let Ok(count) = rustix::io::read(&self.far, &mut bytes) else { return };
        let now = Instant::now();
        // Silence separates frames.
        if now.duration_since(self.heard_at) > Duration::from_millis(20) {
            self.heard.clear();
        }
        if self.heard.is_empty() {
            self.master_until = now;
        }
        self.heard_at = now;
        self.master_until += CHARACTER * u32::try_from(count).unwrap_or(0);
        self.heard.extend(&bytes[..count]);
        if state.echo {
            let _lost = rustix::io::write(&self.far, &bytes[..count]);
        }
        // Whoever talks meanwhile garbles both.
        let mut garbled = false;
        for talk in self.talks.iter_mut().filter(|talk| talk.began <= now) {
            (talk.garbled, garbled) = (true, true);
        }
        if self.heard.len() < 8 {
            return;
        }
        let mut frame: Vec<u8> = self.heard.drain(..).collect();
        garbled |= disturb(&mut frame, state.noise);
        if garbled {
            state.damaged += 1;
        }
        let Some((adu, crc)) = frame.split_last_chunk::<2>() else { return };
        if u16::from_le_bytes(*crc) != checksum(adu) {
            return;
        }
        if garbled && state.noise > 0.0 {
            state.undetected += 1;
        }
        if !garbled {
            self.answer(state, adu);
        }
    }

    fn answer(&mut self, state: &mut State, adu: &[u8]) {
        let &[unit, function, s0, s1, c0, c1] = adu else { return };
        let Some(manner) = state.manners.get(&unit).copied() else { return };
        let (start, count) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
        state.asked.push(Asked { unit, at: Instant::now(), answered: None });
        let asked = Some(state.asked.len() - 1);
        let began = self.master_until + TURNAROUND;
        let talk = |bytes, began, asked| Talk { bytes, at: 0, began, asked, garbled: false };
        match manner {
            Manner::Silent => {}
            Manner::Babbling => {
                let bytes = (0..64).map(|_| fastrand::u8(..)).collect();
                self.talks.push(talk(bytes, began, None));
            }
            Manner::Healthy | Manner::Late(_) => {
                let by = if let Manner::Late(by) = manner { by } else { Duration::ZERO };
                let seq = self.seq.entry(unit).or_default();
                *seq += 1;
                let mut bytes = vec![unit, function, u8::try_from(2 * count).unwrap_or(0)];
                let registers = (0..count).map(|n| register(unit, *seq, start.wrapping_add(n)));
                bytes.extend(registers.flat_map(u16::to_be_bytes));
                bytes.extend(checksum(&bytes).to_le_bytes());
                self.talks.push(talk(bytes, began + by, asked));
            }
        }
    }

    /// Sends the characters that are due.
    fn talk(&mut self, state: &mut State) {
        let now = Instant::now();
        let several = self.talks.iter().filter(|talk| talk.began <= now).count() > 1;
        for talk in &mut self.talks {
            while talk.due().is_some_and(|due| due <= now) {
                talk.garbled |= several || now < self.master_until;
                let right = talk.bytes[talk.at];
                let mut byte = [if talk.garbled { fastrand::u8(..) } else { right }];
                disturb(&mut byte, state.noise);
                talk.bytes[talk.at] = byte[0];
                talk.at += 1;
                talk.garbled |= byte[0] != right;
                // Unread characters are lost when the buffer is full, as in a port.
                let _lost = rustix::io::write(&self.far, &byte);
            }
            if talk.due().is_none() {
                state.damaged += u64::from(talk.garbled);
                let whole = talk.bytes.split_last_chunk::<2>();
                let valid = whole.is_some_and(|(adu, crc)| u16::from_le_bytes(*crc) == checksum(adu));
                state.undetected += u64::from(talk.garbled && valid);
                if let Some(asked) = talk.asked.filter(|_| !talk.garbled) {
                    state.asked[asked].answered = Some(now);
                }
            }
        }
        self.talks.retain(|talk| talk.due().is_some());
    }

    fn in_the_middle(&self) -> bool {
        self.talks.iter().any(|talk| talk.at > 4)
    }

    /// The path is gone for a while, and comes back with another terminal behind it.
    fn replug(&mut self) {
        self.talks.clear();
        self.heard.clear();
        fs::remove_file(&self.link).expect("the link was there");
        drop(std::mem::replace(&mut self.far, far()));
        sleep(Duration::from_millis(30));
        self.far = plug(&self.link);
    }
}

impl Talk {
    /// When its next character has left.
    fn due(&self) -> Option<Instant> {
        let count = u32::try_from(self.at + 1).ok()?;
        (self.at < self.bytes.len()).then(|| self.began + CHARACTER * count)
    }
}

/// It hangs up with its value: no child may inherit it.
fn far() -> OwnedFd {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    openpt(flags).expect("a pseudo-terminal")
}

/// A terminal whose near end is under this path.
fn plug(link: &Path) -> OwnedFd {
    let far = far();
    grantpt(&far).expect("a pseudo-terminal");
    unlockpt(&far).expect("a pseudo-terminal");
    let near = ptsname(&far, Vec::new()).expect("a name");
    symlink(near.to_str().expect("a name"), link).expect("a link");
    far
}

/// Changes this share of the bytes; whether any was.
fn disturb(bytes: &mut [u8], share: f64) -> bool {
    let mut changed = false;
    for byte in bytes {
        if share > 0.0 && fastrand::f64() < share {
            *byte ^= fastrand::u8(1..);
            changed = true;
        }
    }
    changed
}

/// CRC-16/MODBUS.
fn checksum(bytes: &[u8]) -> u16 {
    let mut crc = u16::MAX;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xA001 };
        }
    }
    crc
}
