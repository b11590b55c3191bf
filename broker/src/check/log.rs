//! Which log it is, and whether it has become another one of late.

use domain::Stamp;
use domain::log_epoch::LogRecord;

use super::finding::Finding;

/// For how long a fork is told, in microseconds.
const TOLD_FOR_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// What it is told of.
const WHAT: &str = "log";

/// What the record of the log tells.
pub(super) fn of_record(record: &LogRecord, now: Stamp) -> Finding {
    let Some(current) = record.current() else {
        return Finding::warn(WHAT, "its record names no epoch", "remove the key `record` of LOG: mer makes it anew");
    };
    let epoch = &current.epoch;
    let fork = record.epochs().iter().rfind(|known| known.is_fork && now < known.at.plus_micros(TOLD_FOR_MICROS));
    match fork {
        Some(fork) => {
            let (at, shared_to) = (fork.at.to_rfc3339(), fork.from_sequence - 1);
            let found = format!(
                "its epoch is {epoch}; at {at} it was found to be another log behind {shared_to} ({}): what was \
                 acknowledged behind that before is lost",
                fork.reason
            );
            Finding::warn(WHAT, found, "have senders send it again, and look for the cause (docs/operating.md)")
        }
        None => Finding::ok(WHAT, format!("its epoch is {epoch}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use domain::log_epoch::{Epoch, LogEpoch};

    #[test]
    fn a_fork_is_told_for_a_week() {
        let at = Stamp::from_micros(0);
        let mut record = LogRecord::begin(LogEpoch::of(1), at);
        assert_eq!(of_record(&record, at).level, Level::Ok);
        let epoch = |number, is_fork| Epoch {
            epoch: LogEpoch::of(number),
            from_sequence: 5,
            at,
            reason: "a test".to_owned(),
            is_fork,
        };
        record.declare(epoch(2, false));
        assert_eq!(of_record(&record, at).level, Level::Ok, "by hand: somebody knows");
        record.declare(epoch(3, true));
        let finding = of_record(&record, at.plus_micros(TOLD_FOR_MICROS - 1));
        assert!(finding.level == Level::Warn && finding.found.contains("behind 4 (a test)"), "{finding:?}");
        assert_eq!(of_record(&record, at.plus_micros(TOLD_FOR_MICROS)).level, Level::Ok);
    }
}
