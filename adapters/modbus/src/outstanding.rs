//! The samples of one connection that the store has not answered yet: at most eight.

use adapter_api::{EndpointName, Receipt, Refused};
use std::{collections::VecDeque, fmt, future::Future, pin::Pin};

/// With one more in the wire, this is what a crash of the gateway can cost per connection.
const AT_MOST: usize = 8;

type Answer = Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>;

/// Receipts, oldest first.
#[derive(Default)]
pub(crate) struct Outstanding(VecDeque<(EndpointName, Answer)>);

impl Outstanding {
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < AT_MOST
    }

    /// Whether only one more may be outstanding: that one is urgent. Were it not, polling would stop
    /// until the store's `commit_within` is over, and readings would never be taken.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.0.len() + 1 >= AT_MOST
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, endpoint: EndpointName, receipt: Receipt) {
        self.0.push_back((endpoint, Box::pin(receipt.committed())));
    }

    /// The answer to the oldest; waits for ever if there is none. Cancel-safe.
    pub(crate) async fn oldest(&mut self) -> (EndpointName, Result<(), Refused>) {
        let result = match self.0.front_mut() {
            Some((_, answer)) => answer.await,
            None => std::future::pending().await,
        };
        match self.0.pop_front() {
            Some((endpoint, _)) => (endpoint, result),
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Outstanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(endpoint, _)| endpoint)).finish()
    }
}
