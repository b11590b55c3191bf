//! What came of attempts to deliver, collected and written once a second: every failure, and the latest successes.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use broker::Unavailable;
use broker::attempts::AttemptLog;
use domain::SubscriptionId;
use domain::lane::Attempt;
use tokio::time::sleep;

/// How often what was collected is written.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many successes of one subscription are kept until then: the latest.
const MAX_SUCCESSES: usize = 50;
/// How many failures: more than back-off lets happen in that time on one lane.
const MAX_FAILURES: usize = 50;

/// Attempts that were not written yet.
pub(crate) struct Attempts {
    log: AttemptLog,
    pending: Mutex<HashMap<SubscriptionId, Pending>>,
}

#[derive(Default)]
struct Pending {
    failures: VecDeque<Attempt>,
    successes: VecDeque<Attempt>,
}

impl Attempts {
    pub(crate) fn new(log: AttemptLog) -> Self {
        Self { log, pending: Mutex::default() }
    }

    /// Takes in what came of an attempt.
    pub(crate) fn add(&self, id: &SubscriptionId, attempt: Attempt) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.get_mut(id) {
            Some(known) => known.add(attempt),
            None => pending.entry(id.clone()).or_default().add(attempt),
        }
    }

    /// Leaves nothing of a subscription that is gone.
    pub(crate) async fn remove(&self, id: &SubscriptionId) -> Result<(), Unavailable> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.log.remove(id).await
    }

    /// Writes what is collected, again and again.
    pub(crate) async fn keep_writing(&self) -> Infallible {
        loop {
            sleep(INTERVAL).await;
            self.write().await;
        }
    }

    /// Writes what is collected now.
    pub(crate) async fn write(&self) {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, pending) in pending {
            if let Err(error) = self.log.add(&id, &pending.in_order()).await {
                tracing::debug!(%id, %error, "attempts.lost");
                return;
            }
        }
    }
}

impl Pending {
    fn add(&mut self, attempt: Attempt) {
        // How a failure ended is kept with it.
        let (kept, most) = match (&attempt.error, attempt.attempt) {
            (None, ..=1) => (&mut self.successes, MAX_SUCCESSES),
            _ => (&mut self.failures, MAX_FAILURES),
        };
        if kept.len() == most {
            kept.pop_front();
        }
        kept.push_back(attempt);
    }

    fn in_order(self) -> Vec<Attempt> {
        let mut all: Vec<Attempt> = self.failures.into_iter().chain(self.successes).collect();
        all.sort_by_key(|attempt| attempt.at);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Stamp;

    #[test]
    fn every_failure_is_kept_and_the_latest_successes() {
        let attempt = |n: u64, error: Option<&str>| Attempt {
            sequence: n,
            to_sequence: None,
            at: Stamp::from_micros(i64::try_from(n).unwrap()),
            attempt: 1,
            code: None,
            duration_ms: 1,
            error: error.map(str::to_owned),
            answer: None,
        };
        let mut pending = Pending::default();
        pending.add(attempt(1, Some("refused")));
        for n in 2..200 {
            pending.add(attempt(n, None));
        }
        pending.add(attempt(200, Some("refused")));
        let kept: Vec<u64> = pending.in_order().iter().map(|attempt| attempt.sequence).collect();
        assert_eq!((kept.len(), kept[0], kept[1], kept[51]), (52, 1, 150, 200));
    }
}
