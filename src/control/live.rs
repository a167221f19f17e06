//! The view as it changes: each question is answered from the one there is at that moment.

use super::{errand::Errand, view::View};
use axum::extract::FromRef;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Errands that wait for the daemon; it does one after the other.
const WAITING: usize = 8;

/// What the control socket, and whoever else shows something, looks at.
#[derive(Clone)]
pub struct Live {
    view: watch::Sender<Arc<View>>,
    errands: mpsc::Sender<Errand>,
}

impl Live {
    /// Looks at this. The second value is where the daemon takes errands.
    pub fn new(view: View) -> (Self, mpsc::Receiver<Errand>) {
        let (errands, taken) = mpsc::channel(WAITING);
        (Self { view: watch::Sender::new(Arc::new(view)), errands }, taken)
    }

    /// Shows this from now on.
    pub fn show(&self, view: View) {
        self.view.send_replace(Arc::new(view));
    }

    /// What there is at this moment.
    pub fn now(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Where errands are handed in.
    pub fn errands(&self) -> &mpsc::Sender<Errand> {
        &self.errands
    }
}

impl FromRef<Live> for Arc<View> {
    fn from_ref(live: &Live) -> Self {
        live.now()
    }
}
