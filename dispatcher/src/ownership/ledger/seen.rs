//! What was seen of a key, and since when it has been so.

use std::time::Duration;

use tokio::time::Instant;

/// A key that somebody else has written, as it is listed.
pub(super) struct Seen {
    pub(super) revision: u64,
    pub(super) since: Instant,
}

impl Seen {
    pub(super) fn at(revision: u64, now: Instant) -> Self {
        Self { revision, since: now }
    }

    /// It has this revision now.
    pub(super) fn at_revision(&mut self, revision: u64, now: Instant) {
        if self.revision != revision {
            *self = Self::at(revision, now);
        }
    }

    /// Whether it should have been renewed long ago, or have expired.
    pub(super) fn is_overdue(&self, ttl: Duration, now: Instant) -> bool {
        now >= self.since + ttl
    }
}
