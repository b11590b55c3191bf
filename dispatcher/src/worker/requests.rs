//! The requests of a session: made, and what came of them counted.

use std::pin::pin;

use domain::Stamp;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::Worker;
use super::run::{Run, now, told};
use crate::push::delivery_request::DeliveryRequest;
use crate::push::span::{self, Trial};
use crate::push::verdict::Verdict;
use crate::session::{Input, Landed};

impl Worker {
    /// Begins a request.
    pub(super) fn send(&self, run: &mut Run, load: Vec<u64>) {
        let (window, last_delivered) = (run.session.window(), run.session.lane().last_delivered);
        let (attempt, items, is_batch) =
            (window.attempts(&load), window.items(&load, last_delivered), window.is_batched());
        let priority = items.iter().map(|(_, due, _)| due.priority).fold(f64::INFINITY, f64::min);
        let mut request = match items.as_slice() {
            [item] if !is_batch => DeliveryRequest::of_event(*item, run.log_epoch.as_ref()),
            items => DeliveryRequest::of_batch(items, run.log_epoch.as_ref()),
        };
        let (id, spec) = (&self.id, &**run.session.spec());
        let span = span::of(&self.shared.tracer, &Trial { id, asked: spec, number: attempt, items: &items, is_batch });
        let (permits, lease, client) = (self.shared.permits.clone(), self.shared.lease.clone(), run.client.clone());
        let request = async move {
            let permit = permits.get(priority).await;
            let began = Instant::now();
            // Where it is over another dispatcher may be at work on this by now.
            let outcome = match lease.is_valid() {
                true => {
                    let span = span.and_then(|span| span.begin(&mut request.headers));
                    let outcome = permit.run(pin!(client.push(request))).await;
                    if let Some(span) = span {
                        span::end(span, &outcome);
                    }
                    Some(outcome)
                }
                false => None,
            };
            Landed { load, attempt, outcome, at: Stamp::now(), duration: began.elapsed(), jitter: rand::random() }
        };
        run.under_way.push(Box::pin(request));
    }

    /// A request has come to its end.
    pub(super) fn lands(&mut self, run: &mut Run, landed: Landed) {
        let is_made = landed.outcome.is_some();
        self.count(run, &landed);
        run.session.handle(Input::Landed(landed), now());
        let lane = run.session.lane();
        if let Some(attempt) = lane.last_attempt.as_ref().filter(|_| is_made) {
            self.shared.attempts.add(&self.attempts, attempt.clone());
        }
        self.meter.shows(lane);
    }

    /// Lets the requests that are under way come to their end, where NATS has failed: what they came to counts.
    pub(super) async fn let_land(&mut self, run: &mut Run) {
        while let Some(landed) = run.under_way.next().await {
            self.lands(run, landed);
        }
    }

    fn count(&self, run: &Run, landed: &Landed) {
        let Some(outcome) = &landed.outcome else { return };
        let verdict = outcome.verdict(landed.at);
        self.meter.attempted(outcome, &verdict, landed.duration);
        if verdict == Verdict::Delivered {
            let slots = landed.load.iter().filter_map(|sequence| run.session.window().get(*sequence));
            for (stored_at, is_replay) in slots.filter_map(|slot| slot.load.as_ref()).filter_map(told) {
                self.meter.delivered(stored_at, is_replay, landed.at);
            }
        }
    }
}
