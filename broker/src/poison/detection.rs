//! Whether the connection is lost again and again because of a message that the client library refuses to read.
//!
//! async-nats (0.51) ends its connection on a message with headers that are not UTF-8, say (see `header_block`). Whoever
//! asked for that message asks for it again on the next connection. So where connections are lost in a row, messages are
//! looked at (see `look`) before they are asked for; and those that were found stay known, for whoever has not come past
//! them. Where nothing is lost and none is known, nobody looks at anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many connections lost [`WITHIN`] this are a suspicion: one or two are lost where a server is left or restarted.
const LOSSES: usize = 3;
const WITHIN: Duration = Duration::from_secs(10);
/// How long it lasts, since the last of them.
const LASTS: Duration = Duration::from_secs(10);
/// How many unreadable messages are remembered, the newest of them: of what is forgotten a few more connections are lost.
const MAX_KNOWN: usize = 1024;

/// Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Suspicion(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    /// When the last few connections were lost.
    losses: VecDeque<Instant>,
    /// Until when it lasts, once there is one.
    until: Option<Instant>,
    /// The subjects of messages that cannot be read, by their sequence.
    known: BTreeMap<u64, String>,
}

impl Suspicion {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection was lost.
    pub(crate) fn connection_is_lost(&self) {
        let now = Instant::now();
        let mut record = self.record();
        record.losses.push_back(now);
        if record.losses.len() > LOSSES {
            record.losses.pop_front();
        }
        let is_often = record.losses.len() == LOSSES;
        if is_often && record.losses.front().is_some_and(|first| now.duration_since(*first) <= WITHIN) {
            record.until = Some(now + LASTS);
        }
    }

    /// Connections are lost in a row.
    pub(crate) fn is_raised(&self) -> bool {
        self.record().until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether messages behind a sequence are to be looked at before they are asked for.
    pub(crate) fn is_about_what_follows(&self, sequence: u64) -> bool {
        self.is_raised() || self.known_behind(sequence).is_some()
    }

    /// The first message behind a sequence that is known to be unreadable.
    pub(crate) fn known_behind(&self, sequence: u64) -> Option<u64> {
        let next = sequence.saturating_add(1);
        self.record().known.range(next..).next().map(|(sequence, _)| *sequence)
    }

    /// A message is unreadable, and will be passed over. Told once.
    pub(crate) fn found(&self, sequence: u64, subject: &str) {
        let mut record = self.record();
        if record.known.insert(sequence, subject.to_owned()).as_deref() == Some(subject) {
            return;
        }
        if record.known.len() > MAX_KNOWN {
            record.known.pop_first();
        }
        drop(record);
        // Whoever stored it chose the subject: it may hold anything.
        tracing::error!(
            sequence,
            ?subject,
            "log.unreadable_message_passed_over: its subject or headers are not UTF-8, or it has bad headers"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn it_is_raised_by_losses_in_a_row_and_goes_by_itself() {
        let suspicion = Suspicion::default();
        for _ in 0..10 {
            suspicion.connection_is_lost();
            advance(WITHIN / 2 + Duration::from_millis(1)).await;
            assert!(!suspicion.is_raised(), "now and then a connection is lost");
        }
        suspicion.connection_is_lost();
        suspicion.connection_is_lost();
        assert!(suspicion.is_raised() && suspicion.is_about_what_follows(u64::MAX));
        advance(LASTS + WITHIN).await;
        assert!(!suspicion.is_raised());
        suspicion.connection_is_lost();
        assert!(!suspicion.is_raised());
    }

    #[test]
    fn what_was_found_stays_known_to_those_before_it() {
        let suspicion = Suspicion::default();
        assert!(!suspicion.is_about_what_follows(0));
        for sequence in [7, 3] {
            suspicion.found(sequence, "events.a");
        }
        assert_eq!([0, 2, 3, 6, 7].map(|to| suspicion.known_behind(to)), [Some(3), Some(3), Some(7), Some(7), None]);
        assert!(suspicion.is_about_what_follows(6) && !suspicion.is_about_what_follows(7));
        for sequence in 100..100 + MAX_KNOWN as u64 {
            suspicion.found(sequence, "events.a");
        }
        assert_eq!(suspicion.known_behind(0), Some(100));
    }
}
