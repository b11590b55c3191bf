//! What was read last of the log, or of a part of it: pure.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::log_epoch::Mark;
use domain::{Event, TypePattern};

/// How many events are kept, and how much of their data, in bytes, beside the newest event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecentLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// What was read last, without a gap.
pub(crate) struct Recent {
    most: RecentLimits,
    /// It holds every event from this sequence on; 0 where nothing was ever read.
    from: u64,
    read_to: u64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Recent {
    /// Nothing was read yet.
    pub(crate) fn nothing(most: RecentLimits) -> Self {
        Self { most, from: 0, read_to: 0, events: VecDeque::new(), bytes: 0 }
    }

    /// Begins with what is read behind a sequence.
    pub(crate) fn behind(sequence: u64, most: RecentLimits) -> Self {
        Self { from: sequence + 1, read_to: sequence, ..Self::nothing(most) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from == 0
    }

    /// Everything up to here has been read.
    pub(crate) fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Whether it holds everything that lies behind a sequence.
    pub(crate) fn reaches_back_to(&self, sequence: u64) -> bool {
        self.from > 0 && sequence + 1 >= self.from
    }

    /// Takes in the next message of the log, `None` for one that is no event.
    pub(crate) fn add(&mut self, sequence: u64, event: Option<Arc<Event>>) {
        self.read_to = sequence;
        let Some(event) = event else { return };
        self.bytes += event.data.len();
        self.events.push_back(event);
        while self.events.len() > self.most.events || (self.bytes > self.most.bytes && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.data.len();
            self.from = oldest.sequence + 1;
        }
    }

    /// What identifies the newest event that is kept.
    pub(crate) fn newest(&self) -> Option<Mark> {
        self.events.back().map(|event| Mark::of(event))
    }

    /// What identifies the events that are kept of a part of the log, in order; not of its ends.
    pub(crate) fn marks_between(&self, from: u64, to: u64) -> Vec<Mark> {
        let lies_between = |event: &&Arc<Event>| from < event.sequence && event.sequence < to;
        self.events.iter().filter(lies_between).map(|event| Mark::of(event)).collect()
    }

    /// The events behind a sequence that the filters let through.
    pub(crate) fn since<'a>(
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
pub(crate) mod tests {
    use super::*;
    use bytes::Bytes;
    use domain::Stamp;

    pub(crate) fn event(sequence: u64, event_type: &str) -> Arc<Event> {
        let (subject, at) = (format!("events.{event_type}"), Stamp::from_micros(0));
        Arc::new(Event::from_message("EVENTS", &subject, sequence, at, [], Bytes::from("{}")).unwrap())
    }

    #[test]
    fn it_reaches_back_as_far_as_it_holds_everything() {
        let most = RecentLimits { events: 100, bytes: 1_000 };
        assert!(!Recent::nothing(most).reaches_back_to(0));
        let mut recent = Recent::behind(10, most);
        for sequence in 11..111 {
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
