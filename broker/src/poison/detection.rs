//! Whether a message that the client library cannot read may lie ahead.
//!
//! The library loses its connection on such a message, and a reader that asked for it asks for it again. So connections that
//! are lost in a row are a suspicion: readers then scan the next messages before they ask for them. Messages that a scan has
//! found stay known, so that a reader that is still before one of them scans, too. Without losses and without known messages
//! nobody scans anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many connections that are lost within [`WITHIN`] are a suspicion. One or two are lost where a server is restarted.
const LOSSES: usize = 3;
const WITHIN: Duration = Duration::from_secs(10);
/// How long a suspicion lasts, counted from the last loss.
const LASTS: Duration = Duration::from_secs(10);
/// How many unreadable messages are remembered, the newest ones. A forgotten message costs a few more connections.
const MAX_KNOWN: usize = 1024;

/// The losses of the connection, and the messages that are known to be unreadable. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct PoisonDetection {
    losses: Arc<Mutex<Losses>>,
    /// The subjects of messages that cannot be read, by their sequence.
    known: Arc<Mutex<BTreeMap<u64, String>>>,
}

#[derive(Default)]
struct Losses {
    /// When the last few connections were lost.
    last: VecDeque<Instant>,
    /// Until when there is a suspicion.
    until: Option<Instant>,
}

impl PoisonDetection {
    /// That of a connection beside this one: what it finds is known here, and what it loses is not this one's loss.
    pub(crate) fn aside(&self) -> Self {
        Self { losses: Arc::default(), known: self.known.clone() }
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection was lost.
    pub(crate) fn connection_is_lost(&self) {
        let now = Instant::now();
        let mut losses = self.losses();
        losses.last.push_back(now);
        if losses.last.len() > LOSSES {
            losses.last.pop_front();
        }
        let is_often = losses.last.len() == LOSSES;
        if is_often && losses.last.front().is_some_and(|first| now.duration_since(*first) <= WITHIN) {
            losses.until = Some(now + LASTS);
        }
    }

    /// Whether connections are lost in a row.
    pub(crate) fn is_suspected(&self) -> bool {
        self.losses().until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether a reader must scan the messages behind a sequence before it asks for them.
    pub(crate) fn wants_scan_behind(&self, sequence: u64) -> bool {
        self.is_suspected() || self.known_behind(sequence).is_some()
    }

    /// The first message behind a sequence that is known to be unreadable.
    pub(crate) fn known_behind(&self, sequence: u64) -> Option<u64> {
        let next = sequence.saturating_add(1);
        self.known().range(next..).next().map(|(sequence, _)| *sequence)
    }

    /// A message is unreadable and will be passed over. It is logged once.
    pub(crate) fn report(&self, sequence: u64, subject: &str) {
        let mut known = self.known();
        if known.insert(sequence, subject.to_owned()).as_deref() == Some(subject) {
            return;
        }
        if known.len() > MAX_KNOWN {
            known.pop_first();
        }
        drop(known);
        // The sender chose the subject: it may hold anything.
        tracing::error!(sequence, ?subject, "log.unreadable_message_passed_over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn losses_in_a_row_are_a_suspicion_that_goes_by_itself() {
        let detection = PoisonDetection::default();
        for _ in 0..10 {
            detection.connection_is_lost();
            advance(WITHIN / 2 + Duration::from_millis(1)).await;
            assert!(!detection.is_suspected(), "now and then a connection is lost");
        }
        detection.connection_is_lost();
        detection.connection_is_lost();
        assert!(detection.is_suspected() && detection.wants_scan_behind(u64::MAX));
        advance(LASTS + WITHIN).await;
        assert!(!detection.is_suspected());
        detection.connection_is_lost();
        assert!(!detection.is_suspected());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_aside_tells_what_it_finds_and_not_what_it_loses() {
        let detection = PoisonDetection::default();
        let aside = detection.aside();
        (0..LOSSES).for_each(|_| aside.connection_is_lost());
        assert!(aside.is_suspected() && !detection.is_suspected());
        aside.report(7, "events.a");
        assert_eq!(detection.known_behind(0), Some(7));
    }

    #[test]
    fn a_message_that_was_found_stays_known_to_readers_before_it() {
        let detection = PoisonDetection::default();
        assert!(!detection.wants_scan_behind(0));
        for sequence in [7, 3] {
            detection.report(sequence, "events.a");
        }
        assert_eq!([0, 2, 3, 6, 7].map(|to| detection.known_behind(to)), [Some(3), Some(3), Some(7), Some(7), None]);
        assert!(detection.wants_scan_behind(6) && !detection.wants_scan_behind(7));
        for sequence in 100..100 + MAX_KNOWN as u64 {
            detection.report(sequence, "events.a");
        }
        assert_eq!(detection.known_behind(0), Some(100));
    }
}
