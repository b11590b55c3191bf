//! Replicas that are taken through the same past at the same time have it read for them together: each gets all of it in
//! order, whatever becomes of the others.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer, stream::Stream};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tests::target::{Answer, first_deliveries};
use tests::{Mer, Nats, Target, eventually, eventually_async};

use crate::{LONG, SOON, mer_on};

/// Beyond what is in memory of the end of the log, and beyond what may wait for one of those that read together.
const EVENTS: u64 = 2_500;

struct Setting {
    nats: Nats,
    mer: Mer,
    /// When the first event was stored.
    since: String,
    /// The sequences of all events of type `a`.
    expected: Vec<u64>,
}

impl Setting {
    /// A log with every other event of type `a`.
    async fn new() -> Self {
        let nats = Nats::start();
        let mer = mer_on(&nats).await;
        let since = mer.api().post_event("a", &json!({})).await.stamp;
        let client = nats.client().await;
        for _ in 1..EVENTS {
            client.publish("events.b", "{}".into()).await.unwrap();
            client.publish("events.a", "{}".into()).await.unwrap();
        }
        let expected = (0..EVENTS).map(|n| 2 * n + 1).collect();
        let stored = async || events(&nats).await.cached_info().state.last_sequence;
        eventually_async("all are stored", LONG, async || stored().await == 2 * EVENTS - 1).await;
        Self { nats, mer, since, expected }
    }

    async fn replay(&self, target: &Target) {
        self.mer.api().register(&target.url("/"), &["a"], &json!({"datetime_start": self.since})).await;
    }

    /// Some targets that all want the past, and are being taken through it together.
    async fn replaying(&self, count: usize) -> Vec<Target> {
        let mut targets = Vec::new();
        for _ in 0..count {
            targets.push(Target::start().await);
        }
        for target in &targets {
            target.answer(Answer::Status(500));
            self.replay(target).await;
        }
        eventually_async("something reads for several", SOON, async || !self.past().await.is_empty()).await;
        for target in &targets {
            eventually("something has come", SOON, || !target.received().is_empty()).await;
            target.answer(Answer::Status(200));
        }
        targets
    }

    /// The consumers that read the past for several.
    async fn past(&self) -> Vec<String> {
        let names: Vec<String> = events(&self.nats).await.consumer_names().try_collect().await.unwrap();
        names.into_iter().filter(|name| name.starts_with("past-")).collect()
    }

    async fn all_come_to(&self, target: &Target) {
        eventually("all have come", LONG, || target.taken().last() == self.expected.last()).await;
        assert_eq!(target.taken(), self.expected);
    }

    async fn crash(&mut self) {
        self.mer.kill();
        self.mer.launch();
        self.mer.until_ready().await;
    }

    async fn all_come_and_little_twice_to(&self, target: &Target) {
        eventually("all have come", LONG, || target.taken().last() == self.expected.last()).await;
        let taken = target.taken();
        assert_eq!(first_deliveries(&taken), self.expected);
        let repeated = taken.len() - self.expected.len();
        assert!(repeated <= 100, "{repeated} came twice; only what was not noted at the kill may");
    }
}

async fn events(nats: &Nats) -> Stream {
    jetstream::new(nats.client().await).get_stream("EVENTS").await.unwrap()
}

#[tokio::test]
async fn one_that_fails_one_that_is_slow_and_one_that_is_late_get_all_and_harm_no_other() {
    let setting = Setting::new().await;
    let targets = setting.replaying(5).await;
    let (sick, slow, late) = (&targets[1], &targets[2], Target::start().await);
    sick.answer(Answer::Status(500));
    slow.answer(Answer::After(Duration::from_millis(1)));
    eventually("a part has come", LONG, || targets[3].taken_count() >= 500).await;
    setting.replay(&late).await;
    for target in [&targets[0], &targets[3], &targets[4], &late] {
        setting.all_come_to(target).await;
    }
    let lag = async || setting.mer.api().subscription(&sick.url("/")).await["status"]["lag"].clone();
    let behind = EVENTS - sick.taken_count() as u64;
    assert!(behind > EVENTS / 2, "it takes nothing");
    eventually_async("the lag of one that waits is told", SOON, async || lag().await == behind).await;
    for target in [sick, slow] {
        target.answer(Answer::Status(200));
        setting.all_come_to(target).await;
    }
    // And live again, behind what is read for all.
    let mut expected = setting.expected.clone();
    expected.push(setting.mer.api().post_event("a", &json!({})).await.sequence);
    for target in targets.iter().chain([&late]) {
        eventually("the next one has come", SOON, || target.taken_count() >= expected.len()).await;
        assert_eq!(target.taken(), expected);
    }
}

#[tokio::test]
async fn all_come_in_order_though_somebody_removes_what_reads_for_several_or_takes_from_it() {
    let setting = Setting::new().await;
    let targets = setting.replaying(3).await;
    let events = events(&setting.nats).await;
    let name = setting.past().await.pop().expect("one that reads for several");
    let consumer: PullConsumer = events.get_consumer(&name).await.unwrap();
    let thief = consumer.batch().max_messages(5).expires(SOON).messages().await.unwrap();
    assert!(thief.count().await > 0, "nothing was taken away");
    eventually("a part has come", LONG, || targets[0].taken_count() >= 1_000).await;
    for name in setting.past().await {
        // One that has just come to its end is gone already.
        let _ = events.delete_consumer(&name).await;
    }
    for target in &targets {
        setting.all_come_to(target).await;
    }
}

#[tokio::test]
async fn little_comes_twice_after_a_crash_and_nothing_is_missing() {
    let mut setting = Setting::new().await;
    let targets = setting.replaying(3).await;
    eventually("a part has come", LONG, || targets[0].taken_count() >= 700).await;
    setting.crash().await;
    for target in &targets {
        setting.all_come_and_little_twice_to(target).await;
    }
}

#[tokio::test]
async fn little_comes_twice_to_one_that_is_taken_through_it_alone() {
    let mut setting = Setting::new().await;
    let target = Target::start().await;
    setting.replay(&target).await;
    eventually("a part has come", LONG, || target.taken_count() >= 700).await;
    setting.crash().await;
    setting.all_come_and_little_twice_to(&target).await;
}
