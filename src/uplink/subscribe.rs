//! Which filters a connection still has to ask for. Sans-IO.
//!
//! Filters travel in SUBSCRIBE packets of at most 8 KiB; a lane may fly as soon as *its* filters are
//! acknowledged: a reply published to nobody is a lost confirmation.

use crate::{dialect::Path, endpoints::EndpointKey};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Bytes of filters in one packet.
const PACKET: usize = 8 << 10;
/// Packets without an answer at once: enough to hide a round trip, few enough to let data through.
const AT_ONCE: usize = 4;

/// Who asked for filters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asker {
    All,
    One(EndpointKey),
    /// An endpoint that has left since, or has another token.
    Nobody,
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    waiting: VecDeque<(Asker, Vec<Path>)>,
    /// Per packet under way: who asked for how many filters, in order.
    asked: HashMap<u64, Vec<(Asker, usize)>>,
    /// Endpoints that need the common filters only.
    on_common: Vec<EndpointKey>,
    /// The common filters are granted.
    common_granted: bool,
    next_key: u64,
}

/// Filters that nobody needs any more. The broker keeps a session over its connections, and with it what was
/// subscribed to: they are taken back on whichever connection there is.
#[derive(Debug, Default)]
pub(super) struct Unwanted {
    waiting: Vec<Path>,
    asked: BTreeMap<u64, Vec<Path>>,
    next_key: u64,
}

/// What an answer means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Their replies can reach us.
    pub(super) opened: Vec<EndpointKey>,
    /// Theirs cannot.
    pub(super) refused: Vec<EndpointKey>,
    /// A filter that all need was refused.
    pub(super) all_refused: bool,
    /// It was granted.
    pub(super) all_granted: bool,
}

impl Subscriptions {
    /// Asks for filters that all endpoints share, then for those of each.
    pub(super) fn new(common: Vec<Path>, endpoints: Vec<(EndpointKey, Vec<Path>)>) -> Self {
        let mut subscriptions = Self::default();
        if !common.is_empty() {
            subscriptions.waiting.push_back((Asker::All, common));
        }
        for (endpoint, filters) in endpoints {
            if filters.is_empty() {
                subscriptions.on_common.push(endpoint);
            } else {
                subscriptions.waiting.push_back((Asker::One(endpoint), filters));
            }
        }
        subscriptions
    }

    /// Asks for the filters of an endpoint that has come under way. Returns whether it needs none that is not
    /// granted; `common`: there are some that all endpoints share.
    pub(super) fn join(&mut self, endpoint: EndpointKey, filters: Vec<Path>, common: bool) -> bool {
        match (filters.is_empty(), common && !self.common_granted) {
            (true, false) => return true,
            (true, true) => self.on_common.push(endpoint),
            (false, _) => self.waiting.push_back((Asker::One(endpoint), filters)),
        }
        false
    }

    /// Forgets an endpoint: an answer to what it asked for opens nothing.
    pub(super) fn leave(&mut self, endpoint: &EndpointKey) {
        let it = Asker::One(endpoint.clone());
        self.waiting.retain(|(asker, _)| *asker != it);
        self.on_common.retain(|waiting| waiting != endpoint);
        for (asker, _) in self.asked.values_mut().flatten().filter(|(asker, _)| *asker == it) {
            *asker = Asker::Nobody;
        }
    }

    /// Asks once more for filters that the broker refused.
    pub(super) fn ask_again(&mut self, endpoint: EndpointKey, filters: Vec<Path>) {
        if !filters.is_empty() {
            self.waiting.push_back((Asker::One(endpoint), filters));
        }
    }

    /// Asks once more for the filters that all endpoints share.
    pub(super) fn ask_common_again(&mut self, common: Vec<Path>) {
        if !common.is_empty() {
            self.waiting.push_back((Asker::All, common));
        }
    }

    /// The next packet to send.
    pub(super) fn poll(&mut self) -> Option<(u64, Vec<Path>)> {
        if self.asked.len() >= AT_ONCE {
            return None;
        }
        let (mut filters, mut askers, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((_, next)) = self.waiting.front() {
            bytes += next.iter().map(|path| path.expose().len() + 3).sum::<usize>();
            if bytes > PACKET && !filters.is_empty() {
                break;
            }
            let Some((asker, next)) = self.waiting.pop_front() else { break };
            askers.push((asker, next.len()));
            filters.extend(next);
        }
        if filters.is_empty() {
            return None;
        }
        self.next_key += 1;
        self.asked.insert(self.next_key, askers);
        Some((self.next_key, filters))
    }

    /// The broker's answer to a packet. A filter it does not mention was not granted.
    pub(super) fn handle_answer(&mut self, key: u64, granted: &[bool]) -> Answer {
        let mut answer = Answer::default();
        let mut granted = granted.iter().copied();
        for (asker, filters) in self.asked.remove(&key).unwrap_or_default() {
            let all = (0..filters).fold(true, |all, _| granted.next().unwrap_or(false) && all);
            match (asker, all) {
                (Asker::One(endpoint), true) => answer.opened.push(endpoint),
                (Asker::One(endpoint), false) => answer.refused.push(endpoint),
                (Asker::All, true) => {
                    answer.opened.append(&mut self.on_common);
                    (answer.all_granted, self.common_granted) = (true, true);
                }
                (Asker::All, false) => answer.all_refused = true,
                (Asker::Nobody, _) => {}
            }
        }
        answer
    }

    /// Whether some are not answered yet.
    pub(super) fn is_open_ended(&self) -> bool {
        !self.waiting.is_empty() || !self.asked.is_empty()
    }
}

impl Unwanted {
    /// These are needed no longer, unless somebody needs them still or again: `needed`, as they are on the wire, for
    /// an endpoint that is called otherwise has the same.
    pub(super) fn add(&mut self, filters: Vec<Path>, needed: &HashSet<String>) {
        self.waiting.retain(|filter| !needed.contains(filter.expose()));
        self.asked.values_mut().for_each(|asked| asked.retain(|filter| !needed.contains(filter.expose())));
        let known: HashSet<String> = self.waiting.iter().map(|filter| filter.expose().to_owned()).collect();
        let old = |filter: &Path| needed.contains(filter.expose()) || known.contains(filter.expose());
        self.waiting.extend(filters.into_iter().filter(|filter| !old(filter)));
    }

    /// The next packet to send.
    pub(super) fn poll(&mut self) -> Option<(u64, Vec<Path>)> {
        let mut bytes = 0;
        let fits = |filter: &&Path| {
            bytes += filter.expose().len() + 2;
            bytes <= PACKET
        };
        let count = self.waiting.iter().take_while(fits).count().max(1);
        let filters: Vec<Path> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        if filters.is_empty() {
            return None;
        }
        self.next_key += 1;
        self.asked.insert(self.next_key, filters.clone());
        Some((self.next_key, filters))
    }

    /// They are gone.
    pub(super) fn handle_answer(&mut self, key: u64) {
        self.asked.remove(&key);
    }

    /// What was asked for may not have arrived.
    pub(super) fn handle_disconnected(&mut self) {
        self.waiting.extend(std::mem::take(&mut self.asked).into_values().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Tenant;
    use adapter_api::EndpointName;

    fn key(n: usize) -> EndpointKey {
        EndpointKey { tenant: Tenant::default(), name: EndpointName::new(&format!("e{n}")).unwrap() }
    }

    #[test]
    fn many_filters_go_in_packets_of_at_most_8_kib_and_a_few_at_once() {
        let filter = |n: usize, end: &str| Path::open(&format!("kp1/app-v1/dcx/token-{n:06}/json/+/{end}"));
        let all = (0..1_000).map(|n| (key(n), vec![filter(n, "status"), filter(n, "error")])).collect();
        let mut subscriptions = Subscriptions::new(Vec::new(), all);
        let (mut opened, mut packets) = (0, 0);
        loop {
            let mut batch = Vec::new();
            while let Some((key, filters)) = subscriptions.poll() {
                let bytes: usize = filters.iter().map(|path| path.expose().len() + 3).sum();
                assert!(bytes <= PACKET && filters.len() % 2 == 0);
                batch.push((key, filters.len()));
            }
            if batch.is_empty() {
                break;
            }
            assert!(batch.len() <= AT_ONCE);
            for (key, filters) in batch {
                packets += 1;
                opened += subscriptions.handle_answer(key, &vec![true; filters]).opened.len();
            }
        }
        assert_eq!(opened, 1_000);
        assert!(packets > 10 && !subscriptions.is_open_ended());
    }

    #[test]
    fn one_refused_filter_closes_its_endpoint_only() {
        let filters = |n| vec![Path::open(&format!("a{n}")), Path::open(&format!("b{n}"))];
        let mut subscriptions =
            Subscriptions::new(Vec::new(), (0..3).map(|n| (key(n), filters(n))).collect());
        let (id, _) = subscriptions.poll().unwrap();
        let answer = subscriptions.handle_answer(id, &[true, true, true, false, true]);
        assert_eq!(
            answer,
            Answer { opened: vec![key(0)], refused: vec![key(1), key(2)], ..Answer::default() }
        );
        assert_eq!(subscriptions.handle_answer(id, &[true]), Answer::default(), "an answer counts once");
    }

    #[test]
    fn what_is_not_wanted_is_taken_back_until_the_broker_says_so() {
        let filter = |n: usize| Path::open(&format!("kp1/app-v1/dcx/token-{n:06}/json/+/status"));
        let mut unwanted = Unwanted::default();
        unwanted.add((0..1_000).map(filter).collect(), &HashSet::new());
        let (_, first) = unwanted.poll().unwrap();
        assert!((100..1_000).contains(&first.len()), "{}", first.len());
        unwanted.handle_disconnected();
        unwanted.add(vec![filter(1)], &HashSet::from([filter(7).expose().to_owned()]));
        let (mut gone, mut packets) = (HashSet::new(), 0);
        while let Some((key, filters)) = unwanted.poll() {
            packets += 1;
            gone.extend(filters);
            unwanted.handle_answer(key);
        }
        assert!(packets > 1 && gone.len() == 999 && !gone.contains(&filter(7)) && unwanted.asked.is_empty());
    }

    #[test]
    fn what_an_endpoint_of_another_name_needs_is_not_taken_back() {
        let of = |name: &str, token: &str| Path::of(&EndpointName::new(name).unwrap()).token(token).done();
        let needed: HashSet<String> = [of("new", "T1").expose().to_owned()].into();
        let mut unwanted = Unwanted::default();
        unwanted.add(vec![of("old", "T1"), of("old", "T2")], &needed);
        let (_, asked) = unwanted.poll().unwrap();
        assert_eq!(asked.iter().map(Path::expose).collect::<Vec<_>>(), ["T2"]);
        // It came back in the outage before the broker had said that it is gone.
        unwanted.handle_disconnected();
        unwanted.add(vec![], &[of("newer", "T2").expose().to_owned()].into());
        assert!(unwanted.poll().is_none());
    }

    #[test]
    fn the_common_filter_opens_all() {
        let mut subscriptions =
            Subscriptions::new(vec![Path::open("kp1/+")], vec![(key(0), vec![]), (key(1), vec![])]);
        let (id, _) = subscriptions.poll().unwrap();
        let refused = subscriptions.handle_answer(id, &[false]);
        assert_eq!(refused, Answer { all_refused: true, ..Answer::default() });
        assert!(subscriptions.poll().is_none());
        subscriptions.ask_common_again(vec![Path::open("kp1/+")]);
        let (id, _) = subscriptions.poll().unwrap();
        let answer = subscriptions.handle_answer(id, &[true]);
        assert!(answer.opened.len() == 2 && answer.all_granted);
        assert!(subscriptions.join(key(2), vec![], true), "it needs nothing more");
    }

    #[test]
    fn whoever_comes_under_way_waits_for_its_own_filter_and_whoever_left_for_none() {
        let filter = |n| vec![Path::open(&format!("a{n}"))];
        let mut subscriptions =
            Subscriptions::new(Vec::new(), vec![(key(0), filter(0)), (key(1), filter(1))]);
        let (first, _) = subscriptions.poll().unwrap();
        subscriptions.leave(&key(0));
        assert!(!subscriptions.join(key(0), filter(9), false), "with another token");
        assert!(!subscriptions.join(key(2), filter(2), false));
        subscriptions.leave(&key(2));
        let answer = subscriptions.handle_answer(first, &[true, true]);
        assert_eq!(answer, Answer { opened: vec![key(1)], ..Answer::default() });
        let (second, filters) = subscriptions.poll().unwrap();
        assert_eq!(filters, filter(9));
        assert_eq!(subscriptions.handle_answer(second, &[true]).opened, [key(0)]);
        assert!(!subscriptions.is_open_ended());
    }
}
