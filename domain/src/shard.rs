//! Which dispatcher works on which subscriptions: they are sorted into shards, and each shard prefers one dispatcher.

use sha2::{Digest, Sha256};

use crate::target_url::SubscriptionId;

/// How many shards there are. It must be the same in all processes of an installation, and never change.
pub const SHARDS: u16 = 64;

/// A part of all subscriptions: a number below [`SHARDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u16);

impl Shard {
    /// Every shard.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// The shard that a subscription is in.
    pub fn of(id: &SubscriptionId) -> Self {
        Self(u16::try_from(weight(&[id.as_str()]) % u64::from(SHARDS)).unwrap_or(0))
    }

    /// The shard with this number.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| *number < SHARDS).map(Self)
    }

    /// The one of these dispatchers that is to work on the shard (rendezvous hashing): where one comes or goes, only its
    /// own share moves.
    pub fn preferred<'a>(self, dispatchers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let number = self.0.to_string();
        dispatchers.into_iter().max_by_key(|dispatcher| (weight(&[dispatcher, &number]), *dispatcher))
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that is the same in every process and version: the first bytes of SHA-256 over the parts.
fn weight(parts: &[&str]) -> u64 {
    let digest = Sha256::digest(parts.join("/").as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_subscription_is_always_in_the_same_shard() {
        // Written down, for other versions must agree.
        let id = SubscriptionId::parse("127-0-0-1-8888-hello_0123456789abcdef").unwrap();
        assert_eq!(Shard::of(&id), Shard::of(&id));
        assert!(Shard::all().any(|shard| shard == Shard::of(&id)));
        assert_eq!((Shard::parse("63"), Shard::parse("64"), Shard::parse("x")), (Some(Shard(63)), None, None));
    }

    #[test]
    fn shards_spread_evenly_and_move_only_to_or_from_who_comes_or_goes() {
        let of = |dispatchers: &[&'static str]| -> BTreeMap<Shard, &'static str> {
            Shard::all().map(|shard| (shard, shard.preferred(dispatchers.iter().copied()).unwrap())).collect()
        };
        let (two, three) = (of(&["a", "b"]), of(&["a", "b", "c"]));
        for dispatcher in ["a", "b", "c"] {
            let share = three.values().filter(|preferred| **preferred == dispatcher).count();
            assert!((10..=35).contains(&share), "{dispatcher}: {share} of 64");
        }
        assert!(three.iter().all(|(shard, preferred)| *preferred == "c" || two[shard] == *preferred));
        assert_eq!(Shard::all().next().unwrap().preferred([]), None);
    }

    #[test]
    fn what_other_versions_compute_is_computed() {
        for (id, shard) in [("a_0123456789abcdef", 10), ("b_0123456789abcdef", 26), ("c_0123456789abcdef", 62)] {
            // The first eight bytes of SHA-256, as a number, by 64: computed by another program.
            assert_eq!(Shard::of(&SubscriptionId::parse(id).unwrap()).to_string(), shard.to_string(), "{id}");
        }
    }

    #[test]
    fn other_versions_prefer_the_same_dispatchers() {
        // The greatest of the first eight bytes of SHA-256 over `d1/0` and so on: computed by another program.
        let preferred: Vec<&str> =
            Shard::all().take(8).filter_map(|shard| shard.preferred(["d1", "d2", "d3"])).collect();
        assert_eq!(preferred, ["d1", "d3", "d1", "d3", "d1", "d1", "d2", "d2"]);
    }
}
