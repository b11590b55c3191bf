//! Events that are posted all the time, to targets that write down what comes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Posted};
use crate::history::{History, Line, Report, check};
use crate::targets::Targets;
use crate::{eventually, holds_within};

/// Between one event and the next.
const POSTING_INTERVAL: Duration = Duration::from_millis(40);
/// How many events are read from the log at a time.
const PAGE: usize = 1000;

/// What is posted, to whom, and what came of it.
pub struct Traffic {
    sender: Sender,
    targets: Targets,
    urls: usize,
    deadline: Duration,
    took: Vec<Duration>,
    posting: Option<(CancellationToken, JoinSet<()>)>,
}

/// What came of it. Shown, it is a line.
pub struct Outcome {
    /// What the checker has found.
    pub report: Report,
    urls: usize,
    /// After each fault, the shortest first.
    took: Vec<Duration>,
}

#[derive(Clone)]
struct Sender {
    /// Where it posts: where there are several, to the next one of them what one did not acknowledge, under the same key.
    apis: Vec<Api>,
    keys: Arc<AtomicU64>,
    history: Arc<History>,
    types: usize,
}

impl Traffic {
    /// So many URLs, each for one of so many types; none of them is registered yet. Whatever is posted arrives within the
    /// deadline, or the test fails.
    pub async fn prepare(api: Api, urls: usize, types: usize, deadline: Duration) -> Self {
        let history = History::start();
        let targets = Targets::start(history.clone()).await;
        let sender = Sender { apis: vec![api], keys: Arc::default(), history, types };
        Self { sender, targets, urls, deadline, took: Vec::new(), posting: None }
    }

    /// The same, with all of them registered.
    pub async fn start(api: Api, urls: usize, types: usize, deadline: Duration) -> Self {
        let traffic = Self::prepare(api, urls, types, deadline).await;
        traffic.register(&json!({})).await;
        traffic
    }

    /// Posts through one more, as a proxy or a careful sender does: each event has a key, and what one does not
    /// acknowledge is posted to the next one.
    pub fn also_through(mut self, api: Api) -> Self {
        self.sender.apis.push(api);
        self
    }

    /// Registers each URL for its type.
    pub async fn register(&self, attributes: &Value) {
        let Sender { apis, history, types, .. } = &self.sender;
        for n in 0..self.urls {
            let (target, event_type) = (format!("/{n:03}"), format!("fault.{}", n % types));
            apis[0].register(&self.targets.url(&target), &[&event_type], attributes).await;
            history.add(&Line::Registered { target, event_type });
        }
    }

    /// The targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Writes down that something is done now because of which so many events of each target may come again.
    pub fn disturb(&self, under_way: usize) {
        self.sender.history.add(&Line::Disturbed { under_way });
    }

    /// Posts so many events of each type.
    pub async fn post(&self, count: usize) {
        for _ in 0..count {
            self.post_one_each().await;
        }
    }

    /// What the checker says of all that so far.
    pub fn report(&self) -> Report {
        check(&self.sender.history.path())
    }

    /// Posts from now on.
    pub fn begin(&mut self) {
        self.begin_by(1);
    }

    /// So many post from now on.
    pub fn begin_by(&mut self, posters: usize) {
        let (stop, mut posting) = (CancellationToken::new(), JoinSet::new());
        for n in 0..posters {
            posting.spawn(self.sender.clone().post_until(n, stop.clone()));
        }
        self.posting = Some((stop, posting));
    }

    /// Waits until every target is reached though something is wrong. Answers how long that took.
    pub async fn reach_all_in_spite(&mut self) -> Duration {
        let began = Instant::now();
        self.reach_all().await;
        self.took.push(began.elapsed());
        began.elapsed()
    }

    /// Posts one event of each type, and waits until every target has had its own.
    pub async fn reach_all(&self) {
        let first = self.post_one_each().await;
        eventually("every target is reached", self.deadline, || self.targets.reached(first) == self.urls).await;
    }

    /// The same; answers whether every target has had its own within the deadline.
    pub async fn reaches_all(&self) -> bool {
        let first = self.post_one_each().await;
        holds_within(self.deadline, async || self.targets.reached(first) == self.urls).await
    }

    /// Posts one event of each type, which must be accepted in the end. Answers the first one's sequence.
    async fn post_one_each(&self) -> u64 {
        let began = Instant::now();
        let mut first = u64::MAX;
        for n in 0..self.sender.types {
            let sequence = loop {
                if let Some(sequence) = self.sender.post(n).await {
                    break sequence;
                }
                assert!(began.elapsed() < self.deadline, "not within {:?}: an event is accepted", self.deadline);
            };
            first = first.min(sequence);
        }
        first
    }

    /// Ends with a last event of each type, reads what there is in the log, and has all of it checked.
    pub async fn end(mut self) -> Outcome {
        if let Some((stop, posting)) = self.posting.take() {
            stop.cancel();
            posting.join_all().await;
        }
        self.reach_all().await;
        let mut after = 0;
        loop {
            let page = self.sender.apis[0].get(&format!("/v1/events?limit={PAGE}&after_sequence={after}")).await;
            let events = page["events"].as_array().expect("events");
            for event in events {
                let event_type = event["type"].as_str().expect("a type").to_owned();
                after = event["sequence"].as_u64().expect("a sequence");
                self.sender.history.add(&Line::Stands { event_type, sequence: after });
            }
            if events.is_empty() {
                let report = self.report();
                self.took.sort();
                return Outcome { report, urls: self.urls, took: self.took };
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { posted, arrived, duplicates, .. } = self.report;
        let (rounds, urls) = (self.took.len(), self.urls);
        let (median, longest) = (self.took[rounds / 2], self.took[rounds - 1]);
        write!(
            f,
            "{rounds} rounds: {posted} events, {arrived} arrivals, {duplicates} duplicates; after a fault all {urls} URLs were reached within {median:?} (median), {longest:?} (longest)"
        )
    }
}

impl Sender {
    async fn post_until(self, first: usize, stop: CancellationToken) {
        for n in first.. {
            self.post(n % self.types).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POSTING_INTERVAL) => {}
            }
        }
    }

    /// Posts an event of the n-th type. Answers its place in the log, if that is known.
    async fn post(&self, n: usize) -> Option<u64> {
        let event_type = format!("fault.{n}");
        let posted = match &self.apis[..] {
            [api] => api.try_post_event(&event_type, &json!({})).await,
            apis => self.post_through(apis, &event_type).await,
        };
        let Some(posted) = posted else {
            self.history.add(&Line::Unknown);
            return None;
        };
        self.history.add(&Line::Posted { event_type, sequence: posted.sequence });
        Some(posted.sequence)
    }

    async fn post_through(&self, apis: &[Api], event_type: &str) -> Option<Posted> {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        // Each has its turn to be the first, and is tried twice.
        let turns = apis.iter().cycle().skip(usize::try_from(key).unwrap_or(0) % apis.len()).take(2 * apis.len());
        for api in turns {
            let posted = api.try_post_event_as(&format!("traffic-{key}"), event_type, &json!({})).await;
            if posted.is_some() {
                return posted;
            }
        }
        None
    }
}
