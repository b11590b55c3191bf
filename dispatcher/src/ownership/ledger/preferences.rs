//! Which dispatcher each shard prefers.

use std::collections::{BTreeMap, BTreeSet};

use domain::Shard;

/// Which dispatcher each shard prefers, computed once for the same dispatchers.
#[derive(Default)]
pub(super) struct Preferences {
    pub(super) names: BTreeSet<String>,
    pub(super) by_shard: BTreeMap<Shard, String>,
}

impl Preferences {
    pub(super) fn prepare(&mut self, names: BTreeSet<String>, shards: impl Iterator<Item = Shard>) {
        if self.names != names {
            let of = |shard: Shard| Some((shard, shard.preferred(names.iter().map(String::as_str))?.to_owned()));
            self.by_shard = shards.filter_map(of).collect();
            self.names = names;
        }
    }
}
