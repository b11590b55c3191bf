//! What must hold at each moment of a simulated run.

use domain::Shard;

use super::faults::{Fault, Weather};
use super::world::{FAULTS_FROM, INTERVAL, LISTING_FAILS_AFTER, SHARDS, World};

/// What requests on their way may take beyond a lease and a second.
const ROUND_TRIPS: u64 = 500;
/// How long a shard may be without a dispatcher when one leaves or comes in good order.
const HAND_OVER: u64 = INTERVAL + ROUND_TRIPS + 200;

/// A promise that was broken.
pub(super) struct Broken {
    pub(super) promise: String,
    pub(super) at: u64,
    pub(super) shard: Shard,
    pub(super) log: Vec<String>,
}

impl World {
    pub(super) fn check(&mut self) -> Result<(), Broken> {
        self.remember_old();
        let (mut pushing, mut serving) = (0, 0);
        for (number, participant) in self.participants.iter().enumerate() {
            let may_push = participant.may_push(self.now);
            if pushing & may_push != 0 {
                let shard = self.shards[(pushing & may_push).trailing_zeros() as usize];
                return Err(self.broken(shard, format!("d{number} and another one work on it")));
            }
            pushing |= may_push;
            serving |= may_push & participant.running_bits;
        }
        let is_wrong = self
            .schedule
            .at(self.now)
            .any(|fault| !matches!(fault, Fault::NoListing { .. } | Fault::Late { .. } | Fault::Doubled { .. }));
        // One that cannot list must be replaced while it still cannot.
        let no_listing = self
            .schedule
            .faults
            .iter()
            .filter(|(fault, from, _)| matches!(fault, Fault::NoListing { .. }) && *from <= self.now);
        let give_up = self.ttl + LISTING_FAILS_AFTER + INTERVAL;
        let given_up = no_listing.map(|(_, from, to)| (from + give_up).min(*to)).max().unwrap_or(0);
        if is_wrong {
            self.wrong_until = self.wrong_until.max(self.now);
        }
        self.wrong_until = self.wrong_until.max(given_up.min(self.now));
        let longest = match self.weather {
            Weather::Fair => HAND_OVER,
            Weather::Foul => self.ttl + INTERVAL + ROUND_TRIPS,
        };
        for at in 0..SHARDS {
            if serving & 1 << at != 0 {
                self.worked_at[at] = self.now;
            }
            let silent = self.now - self.worked_at[at].max(self.wrong_until).min(self.now);
            self.longest_silence = self.longest_silence.max(silent);
            if silent > longest && self.now > FAULTS_FROM {
                let promise = format!("nobody works on it for {silent} ms, with a lease of {} ms", self.ttl);
                return Err(self.broken(self.shards[at], promise));
            }
        }
        Ok(())
    }

    pub(super) fn broken(&self, shard: Shard, promise: String) -> Broken {
        let mut log = self.log.clone();
        log.push(format!("{:?}", self.schedule));
        Broken { promise, at: self.now, shard, log }
    }
}
