//! What the receiver counts.

use std::time::Instant;

use broker::store::{StoreError, Stored};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::error::{Reason, Refusal};

/// Upper bounds of how long JetStream takes to acknowledge, in seconds.
const PUBLISH_BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What the receiver counts. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    accepted: Counter,
    duplicates: Counter,
    rejected: [Counter; Reason::ALL.len()],
    publish: Histogram,
    clock_steps_back: Counter,
}

impl Metrics {
    /// Registers all of it.
    pub fn register(registry: &mut Registry) -> Self {
        let (accepted, duplicates) = (Counter::default(), Counter::default());
        let publish = Histogram::new(PUBLISH_BUCKETS);
        registry.register(
            "events_accepted",
            "Events that were stored and acknowledged to their senders",
            accepted.clone(),
        );
        let help = "Events that were there already, and acknowledged again";
        registry.register("events_duplicate", help, duplicates.clone());
        let help = "From handing an event, or a batch, to JetStream until it was acknowledged";
        registry.register_with_unit("publish_duration", help, Unit::Seconds, publish.clone());
        let (name, help) = ("posts_rejected", "Posts of events that were answered with a problem, by the reason");
        let rejected = web::metrics::counters(registry, name, help, "reason", Reason::ALL.map(Reason::name));
        let clock_steps_back = Counter::default();
        let help =
            "How often the clock went back by more than a second: stamps given before are later than those after";
        registry.register("clock_steps_back", help, clock_steps_back.clone());
        Self { accepted, duplicates, rejected, publish, clock_steps_back }
    }

    /// Takes the time that storing has taken, where it has succeeded, and counts what is stored.
    pub(crate) fn stored<T: AsRef<[Stored]>>(&self, began: Instant, stored: &Result<T, StoreError>) {
        let Ok(stored) = stored else { return };
        self.publish.observe(began.elapsed().as_secs_f64());
        for Stored { is_duplicate, .. } in stored.as_ref() {
            if *is_duplicate { &self.duplicates } else { &self.accepted }.inc();
        }
    }

    /// Counts that the clock has gone back.
    pub(crate) fn clock_stepped_back(&self) {
        self.clock_steps_back.inc();
    }

    /// Counts a post that is refused, and passes on what is answered.
    pub(crate) fn counted<T>(&self, answer: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &answer {
            self.rejected[refusal.reason() as usize].inc();
        }
        answer
    }
}
