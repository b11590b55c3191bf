//! Trying a target out.

use broker::Unavailable;
use domain::lane::{Lane, TestOutcome};
use domain::subscription::Test;
use domain::{Stamp, Subscription};
use tokio::time::Instant;

use super::Worker;
use crate::push::delivery_request::DeliveryRequest;
use crate::push::verdict::Verdict;
use crate::session;

/// How long somebody waits for a test that was asked for, in microseconds.
const TEST_WAITED_FOR_MICROS: i64 = 60_000_000;

impl Worker {
    /// Tries the target out, and writes what came of it. What was asked for long ago nobody waits for any more.
    pub(super) async fn test(&mut self, mut lane: Lane, spec: &Subscription, test: &Test) -> Result<(), Unavailable> {
        let mut attempt = None;
        if Stamp::now() < test.asked_at.plus_micros(TEST_WAITED_FOR_MICROS) {
            let (at, began) = (Stamp::now(), Instant::now());
            let client = self.client(spec);
            let outcome = tokio::select! {
                biased;
                // Who works on this lane next tries it again.
                () = self.shutdown.cancelled() => return Ok(()),
                outcome = client.push(DeliveryRequest::of_test(&self.id, test)) => outcome,
            };
            tracing::info!(id = %self.id, %outcome, "target.tested");
            let is_delivered = outcome.verdict(at) == Verdict::Delivered;
            attempt = Some(session::attempt(0, at, 1, began.elapsed(), &outcome, is_delivered));
        }
        lane.test = Some(TestOutcome { id: test.id.clone(), attempt });
        self.write(&mut lane).await
    }
}
