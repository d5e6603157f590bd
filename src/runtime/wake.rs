//! The wake: a nudge for the scheduler that carries nothing but itself. Whoever is woken looks for what is due.

use std::sync::Arc;

use tokio::sync::Notify;

/// A handle to nudge, or to wait for a nudge. Nudges that nobody waits for are kept, and fold into one.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Makes the one that waits, or the next one that will, look again.
    pub fn notify(&self) {
        self.0.notify_one();
    }

    /// Returns at the next nudge, at once where one is kept.
    pub async fn notified(&self) {
        self.0.notified().await;
    }
}
