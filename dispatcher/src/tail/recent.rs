//! The latest events of the log: pure.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::{Event, TypePattern};

/// How many events are kept.
const MAX_EVENTS: usize = 4_096;
/// How much of their data, in bytes, beside the newest event.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What was read last, without a gap.
#[derive(Default)]
pub(super) struct Recent {
    /// It holds every event from this sequence on; 0 where nothing was ever read.
    from: u64,
    read_to: u64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Recent {
    /// Begins with what is read from a sequence on.
    pub(super) fn from(sequence: u64) -> Self {
        Self { from: sequence, read_to: sequence - 1, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from == 0
    }

    /// Everything up to here has been read.
    pub(super) fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Whether it holds everything that lies behind a sequence.
    pub(super) fn reaches_back_to(&self, sequence: u64) -> bool {
        self.from > 0 && sequence + 1 >= self.from
    }

    /// Takes in the next message of the log, `None` for one that is no event.
    pub(super) fn add(&mut self, sequence: u64, event: Option<Arc<Event>>) {
        self.read_to = sequence;
        let Some(event) = event else { return };
        self.bytes += event.data.len();
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.data.len();
            self.from = oldest.sequence + 1;
        }
    }

    /// The events behind a sequence that the filters let through.
    pub(super) fn since<'a>(
        &'a self,
        sequence: u64,
        filters: &'a [TypePattern],
    ) -> impl Iterator<Item = &'a Arc<Event>> {
        let first = self.events.partition_point(|event| event.sequence <= sequence);
        let wanted = move |event: &&Arc<Event>| filters.iter().any(|filter| filter.matches(&event.event_type));
        self.events.range(first..).filter(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::followers::tests::event;

    #[test]
    fn it_reaches_back_as_far_as_it_holds_everything() {
        assert!(!Recent::default().reaches_back_to(0));
        let mut recent = Recent::from(11);
        for sequence in 11..11 + MAX_EVENTS as u64 {
            recent.add(sequence, Some(event(sequence, "a")));
        }
        assert!(recent.reaches_back_to(10) && !recent.reaches_back_to(9));
        let end = recent.read_to();
        recent.add(end + 1, Some(event(end + 1, "a")));
        assert!(recent.reaches_back_to(11) && !recent.reaches_back_to(10));
        recent.add(end + 2, None);
        assert_eq!(recent.read_to(), end + 2);
        let pattern = |text| vec![TypePattern::parse(text).unwrap()];
        assert_eq!(recent.since(end, &pattern("*")).map(|event| event.sequence).collect::<Vec<_>>(), [end + 1]);
        assert_eq!(recent.since(0, &pattern("b")).count(), 0);
    }
}
