//! Looking on while samples are committed. Whoever looks on is never waited for: what a slow reader has no room for
//! is missed, and counted.

use super::{Closed, Command, Store};
use adapter_api::{EndpointName, Sample};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// What a slow reader may have unread: so many,
const UNREAD: usize = 1_024;
/// and of so many bytes.
const UNREAD_BYTES: usize = 1 << 20;
/// Who may look on at a time.
pub const MOST: usize = 16;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Whose.
    pub endpoint: EndpointName,
    /// What.
    pub what: Happened,
    /// Readings and refusals that this reader missed before it.
    pub missed: u64,
}

/// What became of something that was handed in.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// It was taken: it is on disk, unless a rule did not want it there.
    Taken(Sample),
    /// It was not.
    Refused {
        /// How many samples.
        samples: u64,
        /// Why.
        why: String,
    },
}

/// The reader's end. Dropping it ends it.
#[derive(Debug)]
pub struct Tail {
    told: mpsc::Receiver<(Told, usize)>,
    unread: Arc<AtomicUsize>,
}

/// The store's end.
#[derive(Debug)]
pub(crate) struct Teller {
    of: Option<EndpointName>,
    to: mpsc::Sender<(Told, usize)>,
    unread: Arc<AtomicUsize>,
    missed: u64,
}

/// All who look on. With nobody there nothing is done.
#[derive(Debug, Default)]
pub(super) struct Tellers(Vec<Teller>);

/// Why nobody else can look on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// The store has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// There are enough.
    #[error("{MOST} others look on already; end one of them")]
    TooMany,
}

impl Store {
    /// Looks on from now, at one endpoint or at all.
    pub async fn tail(&self, of: Option<EndpointName>) -> Result<Tail, TailError> {
        let (to, told) = mpsc::channel(UNREAD);
        let unread = Arc::new(AtomicUsize::new(0));
        let teller = Teller { of, to, unread: unread.clone(), missed: 0 };
        if !self.query(|answer| Command::Tail { teller, answer }).await? {
            return Err(TailError::TooMany);
        }
        Ok(Tail { told, unread })
    }
}

impl Tail {
    /// What happened next; `None` when the store has ended. Cancel-safe.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Told>> {
        self.told.poll_recv(cx).map(|next| {
            let (told, bytes) = next?;
            self.unread.fetch_sub(bytes, Relaxed);
            Some(told)
        })
    }

    /// The same, to be awaited.
    pub async fn next(&mut self) -> Option<Told> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Tellers {
    /// One more; `false` if there are too many.
    pub(super) fn add(&mut self, teller: Teller) -> bool {
        self.0.retain(|teller| !teller.to.is_closed());
        let room = self.0.len() < MOST;
        if room {
            self.0.push(teller);
        }
        room
    }

    /// These were taken.
    pub(super) fn taken(&mut self, endpoint: &EndpointName, samples: &[Sample]) {
        self.0.retain_mut(|teller| {
            !teller.listens_to(endpoint)
                || samples.iter().all(|sample| {
                    teller.tell(endpoint, sample.weight(), sample.readings.len(), || {
                        Happened::Taken(sample.clone())
                    })
                })
        });
    }

    /// So many were refused.
    pub(super) fn refused(&mut self, endpoint: &EndpointName, samples: u64, why: &dyn std::fmt::Display) {
        self.0.retain_mut(|teller| {
            !teller.listens_to(endpoint)
                || teller.tell(endpoint, 0, 1, || Happened::Refused { samples, why: why.to_string() })
        });
    }

    /// Nobody is told anything more.
    pub(super) fn end(&mut self) {
        self.0.clear();
    }
}

impl Teller {
    fn listens_to(&self, endpoint: &EndpointName) -> bool {
        self.of.as_ref().is_none_or(|of| of == endpoint)
    }

    /// Tells it or counts it as missed. Returns whether anybody still listens.
    fn tell(
        &mut self,
        endpoint: &EndpointName,
        bytes: usize,
        lines: usize,
        what: impl FnOnce() -> Happened,
    ) -> bool {
        let room = self.unread.load(Relaxed).saturating_add(bytes) <= UNREAD_BYTES;
        match self.to.try_reserve() {
            Ok(place) if room => {
                self.unread.fetch_add(bytes, Relaxed);
                let missed = std::mem::take(&mut self.missed);
                place.send((Told { endpoint: endpoint.clone(), what: what(), missed }, bytes));
                true
            }
            Err(mpsc::error::TrySendError::Closed(())) => false,
            Ok(_) | Err(mpsc::error::TrySendError::Full(())) => {
                let lines = u64::try_from(lines).unwrap_or(u64::MAX);
                self.missed = self.missed.saturating_add(lines);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_api::{Reading, Resource, Source, Stamp, Value};

    fn name(endpoint: &str) -> EndpointName {
        EndpointName::new(endpoint).unwrap()
    }

    fn sample(value: Value) -> Sample {
        let reading = Reading::measured(Resource::new("r").unwrap(), value);
        Sample { at: Stamp::Wall { us: 1, source: Source::Gateway }, readings: vec![reading] }
    }

    fn looking_on(tellers: &mut Tellers, of: Option<&str>) -> Tail {
        let (to, told) = mpsc::channel(UNREAD);
        let unread = Arc::new(AtomicUsize::new(0));
        assert!(tellers.add(Teller { of: of.map(name), to, unread: unread.clone(), missed: 0 }));
        Tail { told, unread }
    }

    /// What is there to be read now, and how many were missed.
    async fn read(tail: &mut Tail) -> (usize, u64) {
        let (mut told, mut missed) = (0, 0);
        while !tail.told.is_empty() {
            missed += tail.next().await.unwrap().missed;
            told += 1;
        }
        (told, missed)
    }

    #[tokio::test]
    async fn a_slow_reader_misses_what_it_has_no_room_for_and_is_told() {
        let mut tellers = Tellers::default();
        let mut tail = looking_on(&mut tellers, None);
        let small = sample(Value::Int(1));
        for _ in 0..UNREAD + 10 {
            tellers.taken(&name("a"), std::slice::from_ref(&small));
        }
        tellers.refused(&name("a"), 3, &"full");
        assert_eq!(read(&mut tail).await, (UNREAD, 0));
        tellers.taken(&name("a"), std::slice::from_ref(&small));
        assert_eq!(read(&mut tail).await, (1, 11), "and that only once");
        tellers.taken(&name("a"), &[small]);
        assert_eq!(read(&mut tail).await, (1, 0));
        // Few that are large weigh as much.
        let large = sample(Value::Text("x".repeat(UNREAD_BYTES / 3)));
        tellers.taken(&name("a"), &vec![large.clone(); 5]);
        assert_eq!(read(&mut tail).await, (2, 0));
        tellers.taken(&name("a"), &[large]);
        assert_eq!(read(&mut tail).await, (1, 3), "what was read makes room");
    }

    #[tokio::test]
    async fn everybody_hears_of_their_endpoint_and_those_who_went_are_forgotten() {
        let mut tellers = Tellers::default();
        let (mut a, mut all) = (looking_on(&mut tellers, Some("a")), looking_on(&mut tellers, None));
        let one = [sample(Value::Int(1))];
        tellers.taken(&name("a"), &one);
        tellers.taken(&name("b"), &one);
        tellers.refused(&name("b"), 2, &"why");
        assert_eq!((read(&mut a).await, read(&mut all).await), ((1, 0), (3, 0)));
        drop(a);
        tellers.taken(&name("a"), &one);
        assert_eq!(tellers.0.len(), 1);
        drop(all);
        let _looking: Vec<Tail> = (0..MOST).map(|_| looking_on(&mut tellers, None)).collect();
        let (to, _told) = mpsc::channel(1);
        assert!(!tellers.add(Teller { of: None, to, unread: Arc::default(), missed: 0 }), "there are enough");
        tellers.end();
        assert!(tellers.0.is_empty());
    }
}
