//! How listing the subscriptions goes: a dispatcher that cannot list them cannot begin to work on a shard.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// What came of the last listings. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing(Arc<ListingState>);

#[derive(Debug, Default)]
struct ListingState {
    last: Mutex<LastListings>,
    news: Notify,
}

/// The last listings of subscriptions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastListings {
    /// When the last one that succeeded began.
    pub(super) listed_at: Option<Instant>,
    /// When the first one began that has failed since.
    pub(super) failing_since: Option<Instant>,
}

impl Listing {
    /// A listing that began at a moment has succeeded.
    pub(crate) fn succeeded(&self, began: Instant) {
        *self.lock() = LastListings { listed_at: Some(began), failing_since: None };
        self.0.news.notify_one();
    }

    /// A listing that began at a moment has failed.
    pub(crate) fn failed(&self, began: Instant) {
        self.lock().failing_since.get_or_insert(began);
        self.0.news.notify_one();
    }

    pub(super) fn last(&self) -> LastListings {
        *self.lock()
    }

    /// Waits for the next one to end.
    pub(super) async fn news(&self) {
        self.0.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, LastListings> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
