//! The bucket `LEASES`, simulated: compare-and-set, and keys with a time to live.

use std::collections::BTreeMap;

use super::super::record::{Owner, OwnerRecord, Records, ShardRecord};
use domain::Shard;

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Owner(String),
    Shard(Shard),
}

/// What a key holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Owner(Owner),
    /// What no dispatcher has written.
    Junk,
    Shard(Option<String>),
    /// It has expired, or was removed.
    Marker,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) enum Op {
    List,
    Get(Key),
    Put { key: Key, value: Value, expected: u64, ttl: Option<u64> },
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Listed(Records),
    Got(u64, Option<Value>),
    Stored(u64),
    Conflict,
}

#[derive(Debug, Clone)]
struct Entry {
    revision: u64,
    value: Value,
    expires_at: Option<u64>,
}

pub(super) struct Bucket {
    shards: Vec<Shard>,
    entries: BTreeMap<Key, Entry>,
    last_revision: u64,
    /// How long a marker stands: then the key is as if it had never been.
    marker_ttl: u64,
}

impl Bucket {
    pub(super) fn new(shards: Vec<Shard>, marker_ttl: u64) -> Self {
        Self { shards, entries: BTreeMap::new(), last_revision: 0, marker_ttl }
    }

    pub(super) fn apply(&mut self, op: &Op, now: u64) -> Reply {
        self.expire(now);
        match op {
            Op::List => Reply::Listed(self.list()),
            Op::Get(key) => match self.entries.get(key) {
                None => Reply::Got(0, None),
                Some(Entry { revision, value: Value::Marker, .. }) => Reply::Got(*revision, None),
                Some(Entry { revision, value, .. }) => Reply::Got(*revision, Some(value.clone())),
            },
            Op::Put { key, value, expected, ttl } => {
                if self.entries.get(key).map_or(0, |entry| entry.revision) != *expected {
                    return Reply::Conflict;
                }
                Reply::Stored(self.store(key.clone(), value.clone(), ttl.map(|ttl| now + ttl)))
            }
        }
    }

    fn store(&mut self, key: Key, value: Value, expires_at: Option<u64>) -> u64 {
        self.last_revision += 1;
        self.entries.insert(key, Entry { revision: self.last_revision, value, expires_at });
        self.last_revision
    }

    fn expire(&mut self, now: u64) {
        let is_over = |entry: &Entry| entry.expires_at.is_some_and(|at| at <= now);
        let over: Vec<Key> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(key, _)| key.clone()).collect();
        for key in over {
            match self.entries.remove(&key) {
                Some(Entry { value: Value::Marker, .. }) | None => {}
                Some(_) => drop(self.store(key, Value::Marker, Some(now + self.marker_ttl))),
            }
        }
    }

    pub(super) fn list(&self) -> Records {
        let mut records = Records::with(self.shards.iter().map(|shard| (*shard, ShardRecord::default())));
        for (key, Entry { revision, value, .. }) in &self.entries {
            let revision = *revision;
            match (key, value) {
                (Key::Owner(name), Value::Owner(owner)) => {
                    records.owners.insert(name.clone(), OwnerRecord { revision, owner: Some(owner.clone()) });
                }
                (Key::Owner(name), Value::Junk) => {
                    records.owners.insert(name.clone(), OwnerRecord { revision, owner: None });
                }
                (Key::Shard(shard), Value::Shard(owner)) => {
                    records.set(*shard, ShardRecord::of(revision, owner.as_deref()));
                }
                _ => {}
            }
        }
        records
    }
}
