//! What is recorded of the log: all names that it has had, and what stood where.

use serde::{Deserialize, Serialize};

use super::thinning::thin;
use super::{LogEpoch, Mark};
use crate::stamp::Stamp;
use crate::subscription::CLOCK_SKEW_MARGIN_MICROS;

/// How many epochs are remembered.
const MAX_EPOCHS: usize = 256;
/// The longest reason for an epoch, in bytes.
pub const MAX_REASON_BYTES: usize = 256;

/// One name that the log has had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The name.
    pub epoch: LogEpoch,
    /// The first sequence that belongs to this log and not to the one before.
    pub from_sequence: u64,
    /// When it was declared.
    pub at: Stamp,
    /// Why.
    pub reason: String,
    /// Whether the log was found to be another one than before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_fork: bool,
}

/// The log's names and checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// All epochs, the present one last. There is at least one.
    epochs: Vec<Epoch>,
    /// What stood where in the present log, in order.
    #[serde(default)]
    checkpoints: Vec<Mark>,
}

impl LogRecord {
    /// The record of a log that has none.
    pub fn begin(epoch: LogEpoch, at: Stamp) -> Self {
        let reason = "the first one".to_owned();
        Self { epochs: vec![Epoch { epoch, from_sequence: 1, at, reason, is_fork: false }], checkpoints: Vec::new() }
    }

    /// The present epoch; `None` for a record that somebody else has written.
    pub fn current(&self) -> Option<&Epoch> {
        self.epochs.last()
    }

    /// All epochs that are remembered, the present one last.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// What stood where, in order.
    pub fn checkpoints(&self) -> &[Mark] {
        &self.checkpoints
    }

    /// Adds a checkpoint behind all others; one that is not is left out. Answers whether it was added.
    pub fn add_checkpoint(&mut self, mark: Mark) -> bool {
        let is_newer = self.checkpoints.last().is_none_or(|newest| newest.sequence < mark.sequence);
        if is_newer {
            self.checkpoints.push(mark);
            thin(&mut self.checkpoints);
        }
        is_newer
    }

    /// Declares another epoch, from behind `shared_to` on. What was recorded beyond it is of another log.
    pub fn declare(&mut self, epoch: Epoch) {
        self.checkpoints.retain(|mark| mark.sequence < epoch.from_sequence);
        self.epochs.push(epoch);
        let too_many = self.epochs.len().saturating_sub(MAX_EPOCHS);
        self.epochs.drain(..too_many);
    }

    /// Whether what was noted at a moment, by the server's clock, surely was of the present log: it is the first one, or was
    /// declared well before.
    pub fn is_surely_of_this_log(&self, noted_at: Stamp) -> bool {
        let declared = self.current().filter(|_| self.epochs.len() > 1);
        declared.is_none_or(|epoch| noted_at > epoch.at.plus_micros(CLOCK_SKEW_MARGIN_MICROS))
    }

    /// Up to where the present log is the same as it was in an epoch: everywhere in the present one, and where no fork was found
    /// since. `None`: the epoch is not known, and so nothing is.
    pub fn shared_with(&self, epoch: &LogEpoch) -> Option<u64> {
        let at = self.epochs.iter().rposition(|known| known.epoch == *epoch)?;
        let later = self.epochs.iter().skip(at + 1).filter(|later| later.is_fork);
        let later = later.map(|later| later.from_sequence.saturating_sub(1));
        Some(later.min().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u32, from_sequence: u64) -> Epoch {
        let (at, reason) = (Stamp::from_micros(0), "a test".to_owned());
        Epoch { epoch: LogEpoch::of(number), from_sequence, at, reason, is_fork: true }
    }

    fn mark(sequence: u64) -> Mark {
        Mark::new(sequence, "x", Stamp::from_micros(1))
    }

    #[test]
    fn what_two_epochs_share_ends_at_the_lowest_fork_between_them() {
        let mut record = LogRecord::begin(LogEpoch::of(0), Stamp::from_micros(0));
        for (number, from) in [(1, 21), (2, 11), (3, 31)] {
            record.declare(epoch(number, from));
        }
        let shared = |number| record.shared_with(&LogEpoch::of(number));
        assert_eq!([shared(0), shared(1), shared(2), shared(3)], [Some(10), Some(10), Some(30), Some(u64::MAX)]);
        assert_eq!(shared(9), None);
        record.declare(Epoch { is_fork: false, ..epoch(4, 5) });
        assert_eq!(record.shared_with(&LogEpoch::of(3)), Some(u64::MAX), "by hand: mer has found nothing");
        record.declare(epoch(3, 31));
        assert_eq!(record.current().unwrap().epoch, LogEpoch::of(3));
    }

    #[test]
    fn what_was_noted_before_a_log_was_declared_may_be_of_another_one() {
        let (at, later) = (Stamp::from_micros(0), Stamp::from_micros(CLOCK_SKEW_MARGIN_MICROS + 1));
        let mut record = LogRecord::begin(LogEpoch::of(0), at);
        assert!(record.is_surely_of_this_log(at), "there was no other one");
        record.declare(epoch(1, 5));
        assert!(!record.is_surely_of_this_log(at) && record.is_surely_of_this_log(later));
    }

    #[test]
    fn checkpoints_come_in_order_and_go_with_the_log_that_they_are_of() {
        let mut record = LogRecord::begin(LogEpoch::of(0), Stamp::from_micros(0));
        assert!(record.add_checkpoint(mark(5)) && record.add_checkpoint(mark(9)));
        assert!(!record.add_checkpoint(mark(9)) && !record.add_checkpoint(mark(7)));
        record.declare(epoch(1, 9));
        assert_eq!(record.checkpoints(), [mark(5)]);
        assert!(record.add_checkpoint(mark(6)));
    }

    #[test]
    fn what_is_written_reads_back_and_does_not_grow_for_ever() {
        let mut record = LogRecord::begin(LogEpoch::of(0), Stamp::from_micros(0));
        record.add_checkpoint(mark(5));
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(
            written,
            r#"{"epochs":[{"epoch":"00000000","from_sequence":1,"at":"19700101000000.000000","reason":"the first one"}],"checkpoints":[{"sequence":5,"id":"x","stored_at":"19700101000000.000001"}]}"#
        );
        assert_eq!(serde_json::from_str::<LogRecord>(&written).unwrap(), record);
        (1..1000).for_each(|number| record.declare(epoch(number, 1)));
        assert_eq!((record.epochs().len(), record.current().unwrap().epoch.clone()), (MAX_EPOCHS, LogEpoch::of(999)));
    }
}
