//! Which shards this dispatcher works on, among several that share them.
//!
//! A dispatcher lives as long as its key `owner.<name>` in the bucket `LEASES`, which has a time to live and is renewed
//! at a third of it. A shard is worked on by the one that `shard.<number>` names, as long as that one lives. Every write
//! names the revision that it replaces, so no two can take the same shard; and a dispatcher stops pushing by its own clock
//! before its key can have expired, so no two work on it at a time, whatever was frozen or cut off.
//!
//! Where the bucket's stream has no leader for a while, all dispatchers' keys expire. So one whose key has expired writes it
//! again, and each shard that it held: what nobody has taken meanwhile goes on as if nothing had happened.
//!
//! - `plan`: what is to be done about each shard, pure; `ledger`: what is known and held, pure: answers in, plans out.
//! - `shard_ownership`: carries plans out in the bucket `LEASES`; `record`: what stands there.
//! - `lease`: until when pushes may begin; `owned`: the shards that are worked on, and how many lanes run in each.
//! - `listing`: whether the subscriptions can be listed: who cannot list them must not take shards.
//! - `process`: whether a dispatcher on the same machine has died.
//!
//! It knows shards and dispatchers, and nothing of lanes and subscriptions.

pub(crate) mod lease;
mod ledger;
pub(crate) mod listing;
pub(crate) mod owned;
mod plan;
mod process;
mod record;
pub(crate) mod shard_ownership;
#[cfg(test)]
mod simulation;
