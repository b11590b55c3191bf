//! Until when this dispatcher may begin pushes, and in which shards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::Shard;
use tokio::time::Instant;

use crate::failpoints;

/// Whether pushes may begin: of the dispatcher, or of one shard. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    began: Instant,
    state: Arc<LeaseState>,
    /// The bit of the shard; 0: of the dispatcher.
    bit: u64,
}

#[derive(Debug, Default)]
struct LeaseState {
    /// Milliseconds after the beginning, until which it lasts.
    until_ms: AtomicU64,
    /// The shards for which it holds, a bit for each.
    shards: AtomicU64,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), state: Arc::default(), bit: 0 }
    }

    /// The lease as lanes of a shard see it: a shard that was lost stays lost, though the dispatcher lives again.
    pub(crate) fn of(&self, shard: Shard) -> Self {
        Self { bit: bit(shard), ..self.clone() }
    }

    /// Whether a push may begin now.
    pub(crate) fn is_valid(&self) -> bool {
        failpoints::has_no_fencing()
            || self.state.shards.load(Ordering::Acquire) & self.bit == self.bit
                && self.began.elapsed() < Duration::from_millis(self.state.until_ms.load(Ordering::Acquire))
    }

    /// Whether the shard is another dispatcher's, though lanes of it may still run here.
    pub(crate) fn has_lost_shard(&self) -> bool {
        !failpoints::has_no_fencing() && self.state.shards.load(Ordering::Acquire) & self.bit != self.bit
    }

    pub(super) fn set(&self, until: Option<Instant>, shards: &BTreeSet<Shard>) {
        let ms = until.map_or(0, |until| until.saturating_duration_since(self.began).as_millis());
        self.state.shards.store(shards.iter().fold(0, |bits, shard| bits | bit(*shard)), Ordering::Release);
        self.state.until_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Release);
    }
}

fn bit(shard: Shard) -> u64 {
    Shard::all().position(|other| other == shard).map_or(0, |number| 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_holds_for_some_time_and_some_shards() {
        let lease = Lease::new();
        let shards: Vec<Shard> = Shard::all().collect();
        let (mine, others) = (lease.of(shards[63]), lease.of(shards[0]));
        assert!(!lease.is_valid() && !mine.is_valid());
        lease.set(Some(Instant::now() + Duration::from_secs(5)), &BTreeSet::from([shards[63]]));
        assert!(lease.is_valid() && mine.is_valid() && !others.is_valid());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!lease.is_valid() && !mine.is_valid());
    }
}
