//! How many long answers are given at a time: each holds a part of a list for as long as its client takes to read it. A
//! token has a share of its own, so that one whose clients never read keeps nobody else from reading.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::domain::value::resource::Actor;
use crate::http::errors::ApiError;

/// The slots of all lists. Clones share them.
#[derive(Clone, Debug)]
pub struct ListSlots(Arc<ListSlotsInner>);

#[derive(Debug)]
struct ListSlotsInner {
    total: Arc<Semaphore>,
    shares: Mutex<HashMap<(Uuid, String), Arc<Semaphore>>>,
}

/// The right to answer one list; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ListSlot {
    _actor_permit: OwnedSemaphorePermit,
    _total_permit: OwnedSemaphorePermit,
}

impl ListSlots {
    /// Waits for a slot, for as long as a client has patience for.
    pub(crate) async fn acquire(&self, actor: &Actor) -> Result<ListSlot, ApiError> {
        let share = self.actor_share(actor);
        let slot = async {
            let of_actor = share.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.0.total).acquire_owned().await.ok()?;
            Some(ListSlot { _actor_permit: of_actor, _total_permit: of_all })
        };
        tokio::time::timeout(ACQUIRE_TIMEOUT, slot).await.ok().flatten().ok_or(ApiError::TooManyLists)
    }

    fn actor_share(&self, actor: &Actor) -> Arc<Semaphore> {
        let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // A share that nobody holds or waits for is as good as a new one.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        let share = shares
            .entry((actor.id, actor.name.clone()))
            .or_insert_with(|| Arc::new(Semaphore::new(MAX_LISTS_PER_ACTOR)));
        Arc::clone(share)
    }
}

impl Default for ListSlots {
    fn default() -> Self {
        Self(Arc::new(ListSlotsInner { total: Arc::new(Semaphore::new(MAX_LISTS)), shares: Mutex::default() }))
    }
}

/// Each holds some 200 KB at most.
const MAX_LISTS: usize = 64;
const MAX_LISTS_PER_ACTOR: usize = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
