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
    /// Whether it takes no shard: it is about to leave, or cannot do the work of one that it would take now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) takes_nothing: bool,
}

/// A shard, as all see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Holding {
    /// Who works on it; `None`: it was given up. Where this is not there at all, the record is not of our form.
    #[serde(deserialize_with = "Option::deserialize")]
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
    pub(super) holder: Holder,
}

/// Who works on a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Holder {
    #[default]
    Nobody,
    /// The dispatcher of this name.
    Dispatcher(String),
    /// The record cannot be read: somebody, for all that is known.
    Unknown,
    /// The record was removed, which mer does not do: the dispatcher that held it stops when it sees that.
    Removed,
}

impl Holder {
    /// What a record says.
    fn read(value: &[u8]) -> Self {
        match serde_json::from_slice(value) {
            Ok(Holding { owner: None }) => Self::Nobody,
            Ok(Holding { owner: Some(name) }) if is_name(&name) => Self::Dispatcher(name),
            Ok(_) | Err(_) => Self::Unknown,
        }
    }

    /// The dispatcher's name, if it is one that is known.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Dispatcher(name) => Some(name),
            Self::Nobody | Self::Unknown | Self::Removed => None,
        }
    }
}

/// Whether a dispatcher may have this name: it is a part of keys and subjects.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
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
            if let (Some(name), Some(value)) = (key.strip_prefix(OWNER), value) {
                let owner = serde_json::from_slice(value).ok();
                records.owners.insert(name.to_owned(), OwnerRecord { revision, owner });
            } else if let Some(shard) = key.strip_prefix(SHARD).and_then(Shard::parse) {
                records.shards.insert(
                    shard,
                    ShardRecord { revision, holder: value.as_deref().map_or(Holder::Removed, Holder::read) },
                );
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
        const NOTHING: &ShardRecord = &ShardRecord { revision: 0, holder: Holder::Nobody };
        self.shards.get(&shard).unwrap_or(NOTHING)
    }

    /// The dispatchers that are named by shards.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.shards.values().filter_map(|record| record.holder.name())
    }

    /// The shards whose records do not say who holds them.
    pub(super) fn unclear(&self) -> impl Iterator<Item = (Shard, &ShardRecord)> {
        let is_unclear = |record: &ShardRecord| matches!(record.holder, Holder::Unknown | Holder::Removed);
        self.shards.iter().filter(move |(_, record)| is_unclear(record)).map(|(shard, record)| (*shard, record))
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

#[cfg(test)]
impl ShardRecord {
    /// One that names a dispatcher, or nobody.
    pub(super) fn of(revision: u64, owner: Option<&str>) -> Self {
        let holder = owner.map_or(Holder::Nobody, |name| Holder::Dispatcher(name.to_owned()));
        Self { revision, holder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_shard_is_known_only_where_its_record_is_of_our_form() {
        for (value, holder) in [
            (r#"{"owner":null}"#, Holder::Nobody),
            (r#"{"owner":"018f-a"}"#, Holder::Dispatcher("018f-a".to_owned())),
            (r#"{"owner":"a","more":1}"#, Holder::Dispatcher("a".to_owned())),
            ("{}", Holder::Unknown),
            ("", Holder::Unknown),
            ("junk", Holder::Unknown),
            (r#"{"owner":7}"#, Holder::Unknown),
            (r#"{"owner":""}"#, Holder::Unknown),
            (r#"{"owner":"*"}"#, Holder::Unknown),
            (r#"{"owner":"a.b"}"#, Holder::Unknown),
        ] {
            assert_eq!(Holder::read(value.as_bytes()), holder, "{value}");
        }
        for owner in [None, Some("018f-a")] {
            assert_eq!(Holder::read(&holding_of(owner)).name(), owner);
        }
    }

    #[test]
    fn a_dispatcher_that_takes_shards_is_written_as_it_always_was() {
        let owner = |takes_nothing| Owner { process: Process::unknown(), since: Stamp::from_micros(0), takes_nothing };
        let written = |takes_nothing| serde_json::to_string(&owner(takes_nothing)).unwrap();
        assert!(!written(false).contains("nothing"), "{}", written(false));
        for takes_nothing in [false, true] {
            assert_eq!(serde_json::from_str::<Owner>(&written(takes_nothing)).unwrap(), owner(takes_nothing));
        }
    }
}
