//! Lanes that have caught up read the end of the log together: what a user sees of that is order, nothing lost, and little
//! that comes twice.

use async_nats::jetstream::{self, consumer::PullConsumer, stream::Stream};
use domain::TargetUrl;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tests::target::Answer;
use tests::{Nats, Target, eventually, eventually_async};

use crate::{LONG, SOON, mer_on};

async fn stream(nats: &Nats, name: &str) -> Stream {
    jetstream::new(nats.client().await).get_stream(name).await.unwrap()
}

/// The names of the consumers on `EVENTS`: that which reads the end of the log for all, if there is one, and the others.
async fn consumers(nats: &Nats) -> (Option<String>, Vec<String>) {
    let names: Vec<String> = stream(nats, "EVENTS").await.consumer_names().try_collect().await.unwrap();
    let (mut tails, lanes): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.starts_with("tail-"));
    (tails.pop(), lanes)
}

#[tokio::test]
async fn a_lane_that_falls_far_behind_catches_up_in_order_and_harms_no_other() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (sick, healthy) = (Target::start().await, Target::start().await);
    for target in [&sick, &healthy] {
        api.register(&target.url("/"), &["a.*"], &json!({})).await;
    }
    let mut expected = vec![api.post_event("a.b", &json!({})).await.sequence];
    for target in [&sick, &healthy] {
        eventually("the lane is live", SOON, || target.taken() == expected).await;
    }
    sick.answer(Answer::Status(500));
    let client = nats.client().await;
    for n in 0..3_000_u64 {
        client.publish(format!("events.a.{}", n % 3), "{}".into()).await.unwrap();
        client.publish("events.b", "{}".into()).await.unwrap();
        expected.push(2 + 2 * n);
    }
    eventually("the healthy one has all", LONG, || healthy.taken_count() >= expected.len()).await;
    let lag = async |target: &Target| api.subscription(&target.url("/")).await["status"]["lag"].clone();
    eventually_async("its lag is nothing", SOON, async || lag(&healthy).await == 0).await;
    eventually_async("that of the other is all", SOON, async || lag(&sick).await == 3_000).await;
    sick.answer(Answer::Status(200));
    eventually("the sick one has all", LONG, || sick.taken_count() >= expected.len()).await;
    // And live again, behind what is read for all.
    let last = api.post_event("a.b", &json!({})).await.sequence;
    expected.push(last);
    for target in [&sick, &healthy] {
        eventually("the next one arrives", SOON, || target.taken_count() >= expected.len()).await;
        assert_eq!(target.taken(), expected);
    }
}

#[tokio::test]
async fn what_was_delivered_before_a_crash_does_not_come_again() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    let mut expected = Vec::new();
    for _ in 0..50 {
        expected.push(mer.api().post_event("a", &json!({})).await.sequence);
    }
    eventually("all have arrived", SOON, || target.taken() == expected).await;
    let written = async || {
        let positions = stream(&nats, "POSITIONS").await;
        let message = positions.get_raw_message(positions.cached_info().state.last_sequence).await.ok()?;
        serde_json::from_slice::<Value>(&message.payload).unwrap().as_object()?.values().next()?.as_u64()
    };
    eventually_async("it is written how far", SOON, async || written().await == expected.last().copied()).await;
    mer.kill();
    mer.launch();
    mer.until_ready().await;
    expected.push(mer.api().post_event("a", &json!({})).await.sequence);
    eventually("the next one arrives", SOON, || target.taken().last() == expected.last()).await;
    assert_eq!(target.taken(), expected);
}

#[tokio::test]
async fn a_lanes_consumer_shows_where_it_is() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let mut last = 0;
    for _ in 0..20 {
        api.post_event("b", &json!({})).await;
        last = api.post_event("a", &json!({})).await.sequence;
    }
    let status = async || api.subscription(&target.url("/")).await["status"].clone();
    eventually_async("the API says so", SOON, async || {
        let status = status().await;
        (&status["position"], &status["lag"]) == (&json!(last), &json!(0))
    })
    .await;
    eventually_async("the consumer says so", LONG, async || {
        let (_, lanes) = consumers(&nats).await;
        let Ok(info) = stream(&nats, "EVENTS").await.consumer_info(&lanes[0]).await else { return false };
        (info.ack_floor.stream_sequence, info.num_pending, info.num_ack_pending) == (last, 0, 0)
    })
    .await;
}

#[tokio::test]
async fn events_arrive_though_somebody_removes_what_reads_for_all_or_takes_from_it() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let mut expected = vec![api.post_event("a", &json!({})).await.sequence];
    eventually("the lane is live", SOON, || target.taken() == expected).await;
    let events = stream(&nats, "EVENTS").await;

    eventually_async("it is removed", SOON, async || match consumers(&nats).await.0 {
        Some(name) => events.delete_consumer(&name).await.is_ok(),
        None => false,
    })
    .await;
    for _ in 0..10 {
        expected.push(api.post_event("a", &json!({})).await.sequence);
    }
    eventually("all have arrived", SOON, || target.taken_count() >= expected.len()).await;

    let name = consumers(&nats).await.0.expect("one that reads for all");
    let consumer: PullConsumer = events.get_consumer(&name).await.unwrap();
    let thief = consumer.batch().max_messages(5).expires(SOON).messages().await.unwrap();
    for _ in 0..30 {
        expected.push(api.post_event("a", &json!({})).await.sequence);
    }
    assert!(thief.count().await > 0, "nothing was taken away");
    expected.push(api.post_event("a", &json!({})).await.sequence);
    eventually("all have arrived", LONG, || target.taken_count() >= expected.len()).await;
    assert_eq!(target.taken(), expected);
}

#[tokio::test]
async fn who_asks_about_a_lane_that_does_not_follow_is_answered_by_whoever_works_on_it() {
    let nats = Nats::start();
    let _mer = mer_on(&nats).await;
    let (client, unknown) = (nats.client().await, TargetUrl::parse("http://127.0.0.1:9/").unwrap().subscription_id());
    eventually_async("it is answered", SOON, async || {
        // Without an answer this takes longer than there is time.
        let answer = client.request(format!("mer.live.{unknown}"), "".into()).await;
        answer.is_ok_and(|answer| answer.payload == "null")
    })
    .await;
}
