//! What stands in the bucket `LEASES`: a key for each dispatcher that lives, and one for each shard.

use std::collections::BTreeMap;

use broker::leases::Record;
use bytes::Bytes;
use domain::{Shard, Stamp};
use serde::{Deserialize, Serialize};

use super::process::Process;

/// How the key of a dispatcher begins; its name follows.
const OWNER: &str = "owner.";
/// How the key of a shard begins; its number follows.
const SHARD: &str = "shard.";

/// A dispatcher, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) process: Process,
    /// When the key was written, by the dispatcher's own clock. Only that dispatcher compares it, with what it has written.
    pub(super) since: Stamp,
}

/// A shard, as all see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Holding {
    /// Who works on it; `None`: it was given up.
    owner: Option<String>,
}

/// A listing of the bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    /// Every shard.
    shards: BTreeMap<Shard, ShardRecord>,
    /// The keys of dispatchers, by name.
    pub(super) owners: BTreeMap<String, OwnerRecord>,
}

/// The key of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ShardRecord {
    /// 0 where there is none.
    pub(super) revision: u64,
    /// Who works on it, if anyone does.
    pub(super) owner: Option<String>,
}

/// The key of a dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnerRecord {
    pub(super) revision: u64,
    /// `None`: it cannot be read.
    pub(super) owner: Option<Owner>,
}

impl Records {
    /// Sorts what is in the bucket. What else stands there is left out.
    pub(super) fn of(listed: &[Record]) -> Self {
        let mut records =
            Self { shards: Shard::all().map(|shard| (shard, ShardRecord::default())).collect(), ..Self::default() };
        for Record { key, revision, value } in listed {
            let revision = *revision;
            if let Some(name) = key.strip_prefix(OWNER) {
                let owner = serde_json::from_slice(value).ok();
                records.owners.insert(name.to_owned(), OwnerRecord { revision, owner });
            } else if let Some(shard) = key.strip_prefix(SHARD).and_then(Shard::parse) {
                let owner = serde_json::from_slice::<Holding>(value).unwrap_or_default().owner;
                records.shards.insert(shard, ShardRecord { revision, owner });
            }
        }
        records
    }

    /// With these shards only.
    #[cfg(test)]
    pub(super) fn with(shards: impl IntoIterator<Item = (Shard, ShardRecord)>) -> Self {
        Self { shards: shards.into_iter().collect(), owners: BTreeMap::new() }
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, shard: Shard, record: ShardRecord) {
        self.shards.insert(shard, record);
    }

    pub(super) fn all_shards(&self) -> impl Iterator<Item = Shard> {
        self.shards.keys().copied()
    }

    pub(super) fn shard(&self, shard: Shard) -> &ShardRecord {
        const NOTHING: &ShardRecord = &ShardRecord { revision: 0, owner: None };
        self.shards.get(&shard).unwrap_or(NOTHING)
    }

    /// The dispatchers that are named by shards.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.shards.values().filter_map(|record| record.owner.as_deref())
    }
}

pub(super) fn owner_key(name: &str) -> String {
    format!("{OWNER}{name}")
}

pub(super) fn shard_key(shard: Shard) -> String {
    format!("{SHARD}{shard}")
}

/// What is written of a shard that a dispatcher works on, or that nobody does.
pub(super) fn holding_of(owner: Option<&str>) -> Bytes {
    let holding = Holding { owner: owner.map(str::to_owned) };
    serde_json::to_vec(&holding).unwrap_or_default().into()
}
