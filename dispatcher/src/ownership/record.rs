//! What stands in the bucket `LEASES`: a key for each dispatcher that lives, and one for each shard.

use broker::leases::Record;
use bytes::Bytes;
use domain::{Shard, Stamp};
use serde::{Deserialize, Serialize};

use super::process::Process;

/// How the key of a dispatcher begins; its name follows.
pub(super) const OWNER: &str = "owner.";
/// How the key of a shard begins; its number follows.
pub(super) const SHARD: &str = "shard.";

/// A dispatcher, as the others see it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) process: Process,
    /// When the key was written, by the dispatcher's own clock.
    pub(super) since: Stamp,
}

/// A shard, as all see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holding {
    /// Who works on it; `None`: it was given up.
    pub(super) owner: Option<String>,
}

/// What the bucket has of a shard, and the revision of that.
pub(super) fn holding(records: &[Record], shard: Shard) -> (u64, Holding) {
    let key = format!("{SHARD}{shard}");
    let Some(record) = records.iter().find(|record| record.key == key) else { return (0, Holding::default()) };
    (record.revision, serde_json::from_slice(&record.value).unwrap_or_default())
}

/// What is written of a shard that a dispatcher works on, or that nobody does.
pub(super) fn holding_of(owner: Option<&str>) -> Bytes {
    let holding = Holding { owner: owner.map(str::to_owned) };
    serde_json::to_vec(&holding).unwrap_or_default().into()
}
