//! Which log it is, as the log watch has found it: for lanes, and for all that remembers what was read.

use std::sync::Arc;
use std::time::Duration;

use domain::log_epoch::{LogEpoch, LogRecord};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long lanes wait for the first look after a connect; then they go on with what was known before.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// One connection, and one log on it: what is remembered of the log holds within one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Era {
    /// The link's generation.
    pub(crate) generation: u64,
    /// A number that changes when the log is found to be another one.
    pub(crate) log: u64,
}

/// What is known of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) era: Era,
    /// `None`: the log has no names, as there is no bucket for them.
    pub(crate) record: Option<Arc<LogRecord>>,
}

/// What is known of the log, by everybody who asks.
#[derive(Default)]
pub(crate) struct KnownLog(watch::Sender<Known>);

impl Known {
    /// The name of the present log.
    pub(crate) fn epoch(&self) -> Option<&LogEpoch> {
        Some(&self.record.as_ref()?.current()?.epoch)
    }
}

impl KnownLog {
    /// Whether the log was looked at on a connection.
    pub(crate) fn is_of(&self, generation: u64) -> bool {
        self.0.borrow().era.generation == generation
    }

    /// What is known of the log now.
    pub(crate) fn now(&self) -> Known {
        self.0.borrow().clone()
    }

    /// What is known of the log since it was looked at on this connection. Where that takes too long: what was known before.
    pub(crate) async fn on(&self, generation: u64) -> Known {
        let mut known = self.0.subscribe();
        let is_looked_at = known.wait_for(|known| known.era.generation == generation);
        if let Ok(Ok(known)) = timeout(LOOK_PATIENCE, is_looked_at).await {
            return known.clone();
        }
        tracing::warn!("log.not_looked_at");
        let known = self.now();
        Known { era: Era { generation, ..known.era }, ..known }
    }

    /// What is known after a look, with the number of the log: another one where it has another name.
    pub(crate) fn after(&self, generation: u64, record: Option<LogRecord>) -> Known {
        let had = self.0.borrow();
        let era = Era { generation, log: had.era.log };
        let mut known = Known { era, record: record.map(Arc::new) };
        if known.epoch() != had.epoch() {
            known.era.log += 1;
        }
        known
    }

    /// Tells what is known from now on.
    pub(crate) fn is(&self, known: Known) {
        self.0.send_replace(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Stamp;

    #[test]
    fn another_name_is_another_log_and_another_connection_is_not() {
        let known_log = KnownLog::default();
        let record = |number| Some(LogRecord::begin(LogEpoch::of(number), Stamp::from_micros(0)));
        for (generation, record, log) in
            [(1, record(5), 1), (1, record(5), 1), (2, record(5), 1), (2, record(6), 2), (3, None, 3)]
        {
            let known = known_log.after(generation, record);
            assert_eq!(known.era, Era { generation, log });
            known_log.is(known);
            assert!(known_log.is_of(generation));
        }
    }
}
