//! The shards that this dispatcher works on, and how many lanes run in each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use domain::Shard;

/// How a shard came to this dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// The one before has given it up: nothing of it is under way, and how far its lanes have come is written.
    Clean,
    /// The one before has died, or may come to life again: what it still reads from a consumer must be nobody's. How far its
    /// lanes have come may stand in the position log only.
    Fenced {
        /// Its name, where that is known.
        from: Option<String>,
    },
}

/// The shards that this dispatcher works on.
pub(crate) type Owned = BTreeMap<Shard, Takeover>;

/// How many lanes run, by shard: a shard is given up when none does.
#[derive(Clone, Default)]
pub(crate) struct RunningLanes(Arc<Mutex<BTreeMap<Shard, usize>>>);

impl RunningLanes {
    pub(crate) fn began(&self, shard: Shard) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(shard).or_default() += 1;
    }

    pub(crate) fn ended(&self, shard: Shard) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&shard) {
            *count = count.saturating_sub(1);
        }
    }

    /// The shards in which lanes run.
    pub(super) fn busy(&self) -> BTreeSet<Shard> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter(|(_, count)| **count > 0).map(|(shard, _)| *shard).collect()
    }
}
