//! Answers that many checks of a round need: each is found once, and all wait for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Answers by what was asked.
pub(super) struct Shared<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K: Eq + Hash, V: Clone> Shared<K, V> {
    /// The answer, which `find` finds where nobody has found it yet. Where that is broken off, whoever waits takes over.
    pub(super) async fn get(&self, key: K, find: impl Future<Output = V>) -> V {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key).or_default())
        };
        cell.get_or_init(|| find).await.clone()
    }
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn each_is_found_once() {
        let (shared, found) = (Shared::default(), AtomicUsize::new(0));
        let find = |key: &'static str| {
            shared.get(key, async {
                tokio::task::yield_now().await;
                found.fetch_add(1, Ordering::SeqCst);
                key.len()
            })
        };
        assert_eq!(join_all(["a", "bb", "a"].map(find)).await, [1, 2, 1]);
        assert_eq!(found.load(Ordering::SeqCst), 2);
    }
}
