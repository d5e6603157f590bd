//! How many long answers are given at a time: each holds a part of a list for as long as its client takes to read it. A
//! token has a share of its own, so that one whose clients never read keeps nobody else from reading.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::domain::resource::Actor;
use crate::http::errors::ApiError;

/// The slots of all lists. Clones share them.
#[derive(Clone, Debug)]
pub struct ListSlots(Arc<Slots>);

#[derive(Debug)]
struct Slots {
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<(Uuid, String), Arc<Semaphore>>>,
}

/// The right to answer one list; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ListSlot {
    _of_actor: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl ListSlots {
    /// Waits for a slot, for as long as a client has patience for.
    pub(crate) async fn take(&self, actor: &Actor) -> Result<ListSlot, ApiError> {
        let share = self.share_of(actor);
        let slot = async {
            let of_actor = share.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.0.all).acquire_owned().await.ok()?;
            Some(ListSlot { _of_actor: of_actor, _of_all: of_all })
        };
        tokio::time::timeout(LONGEST_WAIT, slot).await.ok().flatten().ok_or(ApiError::TooManyLists)
    }

    fn share_of(&self, actor: &Actor) -> Arc<Semaphore> {
        let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // A share that nobody holds or waits for is as good as a new one.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        let share = shares.entry((actor.id, actor.name.clone())).or_insert_with(|| Arc::new(Semaphore::new(OF_ACTOR)));
        Arc::clone(share)
    }
}

impl Default for ListSlots {
    fn default() -> Self {
        Self(Arc::new(Slots { all: Arc::new(Semaphore::new(OF_ALL)), shares: Mutex::default() }))
    }
}

/// Each holds some 200 KB at most.
const OF_ALL: usize = 64;
const OF_ACTOR: usize = 16;
const LONGEST_WAIT: Duration = Duration::from_secs(5);
