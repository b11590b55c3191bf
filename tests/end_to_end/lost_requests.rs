//! What is asked of nats-server may get lost on the way: events come all the same, and none is passed over.

use std::time::{Duration, Instant};

use domain::TargetUrl;
use serde_json::json;
use tests::lossy::Lossy;
use tests::{Mer, Nats, Target, eventually, eventually_async};

use crate::gaps::remove_before;
use crate::{LONG, MER, SOON};

/// So far back does a lane read a consumer of its own, and not what is in memory for all.
const EVENTS: u64 = 1_300;
/// How many events a lane asks for at a time.
const ASKED_FOR: u64 = 128;

struct Setting {
    nats: Nats,
    way: Lossy,
    mer: Mer,
    target: Target,
}

impl Setting {
    async fn new() -> Self {
        let nats = Nats::start();
        let way = Lossy::to(nats.port()).await;
        let mer = Mer::new(MER).set("MER_NATS_URL", way.url()).start().await;
        Self { nats, way, mer, target: Target::start().await }
    }

    /// Has the target taken through a log of [`EVENTS`], until the second request for them is lost.
    async fn replay_until_a_loss(&self) {
        let api = self.mer.api();
        let first = api.post_event("a", &json!({})).await;
        for _ in 1..EVENTS {
            api.post_event("a", &json!({})).await;
        }
        let url = self.target.url("/");
        self.way.lose_request(TargetUrl::parse(&url).unwrap().subscription_id().as_str(), 1);
        api.register(&url, &["a"], &json!({"datetime_start": first.stamp})).await;
        eventually("what was asked for before has come", SOON, || self.target.taken_count() as u64 == ASKED_FOR).await;
        assert!(self.way.has_lost());
    }
}

#[tokio::test]
async fn a_replay_goes_on_when_a_request_for_more_is_lost() {
    let setting = Setting::new().await;
    setting.replay_until_a_loss().await;
    eventually("all have come", LONG, || setting.target.taken_count() as u64 >= EVENTS).await;
    assert_eq!(setting.target.taken(), (1..=EVENTS).collect::<Vec<u64>>());
}

#[tokio::test]
async fn what_is_removed_while_a_request_for_it_is_lost_is_told() {
    let setting = Setting::new().await;
    setting.replay_until_a_loss().await;
    // Some of the eight seconds in which it is not known yet: nothing that can be seen changes in them.
    tokio::time::sleep(Duration::from_secs(2)).await;
    remove_before(&setting.nats, EVENTS).await;
    let status = async || setting.mer.api().subscription(&setting.target.url("/")).await["status"].clone();
    eventually_async("the lane says so", SOON, async || status().await["state"] == "gap").await;
    let gap = &status().await["gap"];
    assert_eq!((&gap["from_sequence"], &gap["to_sequence"]), (&json!(ASKED_FOR + 1), &json!(EVENTS - 1)));
}

#[tokio::test]
async fn live_events_come_when_a_request_for_the_end_of_the_log_is_lost() {
    let setting = Setting::new().await;
    let api = setting.mer.api();
    setting.way.lose_request("tail-", 0);
    api.register(&setting.target.url("/"), &["a"], &json!({})).await;
    eventually("a request is lost", SOON, || setting.way.has_lost()).await;
    let posted = api.post_event("a", &json!({})).await.sequence;
    eventually("it has come", SOON, || setting.target.taken() == [posted]).await;
}

#[tokio::test]
async fn what_was_asked_on_a_connection_that_is_lost_is_asked_on_the_next_one_at_once() {
    // What a lane asks as it begins, and what the registrar asks for the call.
    for asked in ["STREAM.MSG.GET.KV_LANES", "CONSUMER.INFO.EVENTS", "STREAM.MSG.GET.KV_SUBSCRIPTIONS"] {
        let setting = Setting::new().await;
        let (api, way) = (setting.mer.api(), &setting.way);
        way.lose_all(asked);
        let url = setting.target.url("/");
        let registered = tokio::spawn(async move { api.register(&url, &["a"], &json!({})).await });
        eventually("it is asked", SOON, || way.came(asked) > 0).await;
        way.lose_no_more();
        way.cut();
        let began = Instant::now();
        registered.await.expect("registered");
        let (api, mut posted) = (setting.mer.api(), None);
        while posted.is_none() && began.elapsed() < SOON {
            // Under one key: where the connection is lost while it is stored, it may be stored already.
            posted = api.try_post_event_as("one", "a", &json!({})).await;
        }
        let posted = posted.expect("an acknowledgement").sequence;
        eventually("it has come", SOON, || setting.target.taken() == [posted]).await;
        let took = began.elapsed();
        // A request that is not answered is given up after 4 s.
        assert!(took < Duration::from_secs(3), "{asked}: after {took:?}");
    }
}
