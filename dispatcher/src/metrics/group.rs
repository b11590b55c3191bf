//! What is counted for all lanes of a group.

use std::sync::Arc;
use std::time::Duration;

use domain::Stamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use crate::push::verdict::{PushOutcome, Verdict};

/// Upper bounds of how long a request takes, in seconds.
const DELIVERY_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds of how long an event is on its way, in seconds.
const END_TO_END_BUCKETS: [f64; 15] =
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0];
/// What may come of a request. Each stands where [`index_of`] says.
pub(super) const OUTCOMES: [&str; 8] =
    ["delivered", "status_3xx", "status_4xx", "status_5xx", "status_other", "no_answer", "resume_after", "gone"];

/// What is counted for all lanes of a group.
#[derive(Debug)]
pub(super) struct Group {
    /// As it stands in the label.
    pub(super) name: Arc<str>,
    pub(super) delivered: Counter,
    pub(super) dead_letters: Counter,
    pub(super) attempts: [Counter; OUTCOMES.len()],
    pub(super) delivery: Histogram,
    pub(super) end_to_end: Histogram,
}

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            delivered: Counter::default(),
            dead_letters: Counter::default(),
            attempts: std::array::from_fn(|_| Counter::default()),
            delivery: Histogram::new(DELIVERY_BUCKETS),
            end_to_end: Histogram::new(END_TO_END_BUCKETS),
        }
    }

    /// A request came to its end.
    pub(super) fn attempted(&self, outcome: &PushOutcome, verdict: &Verdict, duration: Duration) {
        self.attempts[index_of(outcome, verdict)].inc();
        self.delivery.observe(duration.as_secs_f64());
    }

    /// A target took an event that is no replay.
    pub(super) fn arrived(&self, stored_at: Stamp, at: Stamp) {
        // The clocks of two machines: what would come before it was stored came at once.
        self.end_to_end.observe(seconds(stored_at, at));
    }
}

/// From one moment to a later one, in seconds; 0 where it is not later.
pub(super) fn seconds(from: Stamp, to: Stamp) -> f64 {
    (to.as_micros() - from.as_micros()).max(0) as f64 / 1e6
}

fn index_of(outcome: &PushOutcome, verdict: &Verdict) -> usize {
    match (verdict, outcome.code()) {
        (Verdict::Delivered, _) => 0,
        (Verdict::ResumeAfter(_), _) => 6,
        (Verdict::Gone, _) => 7,
        (Verdict::Retry { .. }, Some(code @ 300..=599)) => usize::from(code / 100) - 2,
        (Verdict::Retry { .. }, Some(_)) => 4,
        (Verdict::Retry { .. }, None) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::verdict::Answer;

    #[test]
    fn an_attempt_is_counted_by_what_came_of_it() {
        let answered = |status| PushOutcome::Answered(Answer { status, ..Answer::default() });
        let resumes =
            PushOutcome::Answered(Answer { status: 409, resume_after: Some("7".into()), ..Answer::default() });
        for (outcome, name) in [
            (answered(200), "delivered"),
            (answered(204), "delivered"),
            (answered(302), "status_3xx"),
            (answered(404), "status_4xx"),
            (answered(409), "status_4xx"),
            (answered(503), "status_5xx"),
            (answered(600), "status_other"),
            (answered(410), "gone"),
            (resumes, "resume_after"),
            (PushOutcome::Failed("timed out".into()), "no_answer"),
        ] {
            let verdict = outcome.verdict(Stamp::now());
            assert_eq!(OUTCOMES[index_of(&outcome, &verdict)], name, "{outcome}");
        }
    }
}
