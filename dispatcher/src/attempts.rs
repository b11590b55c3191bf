//! What came of attempts to deliver, collected and written once a second: every failure, and the latest successes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The attempts of all lanes that were not written yet.
pub(crate) struct Attempts {
    log: AttemptLog,
    /// The lanes that have any.
    pending: Mutex<Vec<Arc<Collected>>>,
}

/// Those of one lane: it shares nothing with the others at each attempt.
pub(crate) struct Collected {
    id: SubscriptionId,
    pending: Mutex<Pending>,
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

    /// Takes in what came of an attempt of a lane.
    pub(crate) fn add(&self, lane: &Arc<Collected>, attempt: Attempt) {
        let mut pending = lock(&lane.pending);
        let is_first = pending.is_empty();
        pending.add(attempt);
        drop(pending);
        if is_first {
            lock(&self.pending).push(lane.clone());
        }
    }

    /// Leaves nothing of a subscription that is gone.
    pub(crate) async fn remove(&self, lane: &Collected) -> Result<(), Unavailable> {
        lane.take();
        self.log.remove(&lane.id).await
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
        let lanes = std::mem::take(&mut *lock(&self.pending));
        for lane in lanes {
            let attempts = lane.take().in_order();
            if attempts.is_empty() {
                continue;
            }
            if let Err(error) = self.log.add(&lane.id, &attempts).await {
                tracing::debug!(id = %lane.id, %error, "attempts.lost");
            }
        }
    }
}

impl Collected {
    pub(crate) fn of(id: SubscriptionId) -> Arc<Self> {
        Arc::new(Self { id, pending: Mutex::default() })
    }

    fn take(&self) -> Pending {
        std::mem::take(&mut *lock(&self.pending))
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.failures.is_empty() && self.successes.is_empty()
    }

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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
