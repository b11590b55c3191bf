//! When a nats-server that does not write is started anew. One whose disk was full for a moment does not write again by
//! itself, though there is room (nats-server 2.15); started anew it does. Pure.

use std::time::Duration;

use broker::DiskState;
use tokio::time::Instant;

use super::disk::Room;

/// For how long writes fail before it is started anew, where the disk is known to be the cause.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where nothing is known but that writes are not answered: a slow disk is not mended by a restart.
const LONG_PATIENCE: Duration = Duration::from_secs(60);
/// The least time between two restarts; doubled with each one that did not help.
const LEAST_PAUSE: Duration = Duration::from_secs(10);
const MOST_PAUSE: Duration = Duration::from_secs(300);

/// What fails, as far as is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failing {
    pub(super) since: Instant,
    pub(super) is_of_disk: bool,
}

/// The restarts of one nats-server.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// When the disk was last without room.
    full_at: Option<Instant>,
    /// The last restart, and how many there were since writes last succeeded for long.
    last: Option<(Instant, Room)>,
    count: u32,
}

impl Restarts {
    /// Whether it is to be started anew now. To be asked again and again, so that no change of the disk is missed.
    pub(super) fn is_due(&mut self, now: Instant, failing: Option<Failing>, state: DiskState, room: Room) -> bool {
        if state != DiskState::Roomy {
            self.full_at = Some(now);
        }
        let Some(failing) = failing else {
            if self.last.is_some_and(|(last, _)| now >= last + LONG_PATIENCE) {
                (self.last, self.count) = (None, 0);
            }
            return false;
        };
        // What writes nothing may be noticed some time after there is room again.
        let was_full = self.full_at.is_some_and(|full_at| failing.since <= full_at + LONG_PATIENCE);
        let patience = if was_full || failing.is_of_disk { PATIENCE } else { LONG_PATIENCE };
        if room == Room::None || now < failing.since + patience {
            return false;
        }
        let is_rested = self.last.is_none_or(|(last, had)| {
            // More room than the last one had: that it did not help then says nothing.
            let pause = if room > had { LEAST_PAUSE } else { pause(self.count) };
            now >= last + pause
        });
        if is_rested {
            self.last = Some((now, room));
            self.count = self.count.saturating_add(1);
        }
        is_rested
    }
}

fn pause(count: u32) -> Duration {
    LEAST_PAUSE.saturating_mul(2_u32.saturating_pow(count.saturating_sub(1))).min(MOST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The seconds at which it is started anew, asked each second of 10 minutes; writes fail from `since` on.
    fn restarts(since: u64, is_of_disk: bool, disk: impl Fn(u64) -> (DiskState, Room)) -> Vec<u64> {
        let (mut restarts, began) = (Restarts::default(), Instant::now());
        let is_due = |second: &u64| {
            let (state, room) = disk(*second);
            let failing = (*second >= since).then(|| Failing { since: began + SECOND * since as u32, is_of_disk });
            restarts.is_due(began + SECOND * *second as u32, failing, state, room)
        };
        (0..600).filter(is_due).collect()
    }

    #[test]
    fn it_is_started_anew_when_there_is_room_again_and_never_in_a_tight_loop() {
        let full_until_100 = |second| match second {
            0..5 => (DiskState::Roomy, Room::ForEvents),
            5..100 => (DiskState::Full, Room::None),
            _ => (DiskState::Roomy, Room::ForEvents),
        };
        assert_eq!(restarts(5, false, full_until_100), [100, 110, 130, 170, 250, 410], "it is of no help");
        let reserve = |second| match second {
            0..5 => (DiskState::Roomy, Room::ForEvents),
            5..100 => (DiskState::Full, Room::ForPositions),
            _ => (DiskState::Roomy, Room::ForEvents),
        };
        assert_eq!(restarts(5, false, reserve)[..5], [15, 25, 45, 85, 100], "and at once when more is free");
        assert!(restarts(5, true, |_| (DiskState::Full, Room::None)).is_empty(), "there is no room");
        assert!(restarts(5, true, |_| (DiskState::ReadOnly, Room::None)).is_empty());
    }

    #[test]
    fn silence_alone_is_waited_for_longer() {
        let roomy = |_| (DiskState::Roomy, Room::ForEvents);
        assert_eq!(restarts(5, false, roomy)[0], 65);
        assert_eq!(restarts(5, true, roomy)[0], 15);
        assert!(restarts(600, true, roomy).is_empty(), "nothing fails");
        let full_for_a_moment =
            |second| (if second == 3 { DiskState::Full } else { DiskState::Roomy }, Room::ForEvents);
        assert_eq!(restarts(5, false, full_for_a_moment)[0], 15, "it was noticed when there was room again");
    }
}
