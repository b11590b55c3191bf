//! One URL's events come in the log's order, and a late replica is taken through the past into the present.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tests::target::Answer;
use tests::{Mer, Nats, Target, eventually, eventually_async};
use tokio::task::JoinSet;

use crate::{LONG, MER, SOON, mer_on};

const FROM_THE_BEGINNING: &str = "20200101000000.0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_and_a_late_one_get_the_same_events_in_the_logs_order() {
    const EVENTS: u64 = 6000;
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let replicas = [Target::start().await, Target::start().await, Target::start().await];
    for replica in &replicas {
        api.register(&replica.url("/"), &["order.created", "order.paid"], &json!({})).await;
    }

    // Sixteen senders at once; one of them keeps posting what nobody asked for.
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for sender in 0..16 {
        let (api, next) = (api.clone(), next.clone());
        senders.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < EVENTS {
                let event_type =
                    ["order.created", "order.paid", "order.noise"][if sender == 0 { 2 } else { sender % 2 }];
                api.post_event(event_type, &json!({"sender": sender})).await;
            }
        });
    }
    eventually("half of the events are posted", LONG, || next.load(Ordering::Relaxed) > EVENTS / 2).await;
    let late = Target::start().await;
    api.register(&late.url("/"), &["order.created", "order.paid"], &json!({"datetime_start": FROM_THE_BEGINNING}))
        .await;
    assert!(next.load(Ordering::Relaxed) < EVENTS, "events must still be posted when the late replica registers");
    senders.join_all().await;
    let last = [api.post_event("order.created", &json!({})).await, api.post_event("order.paid", &json!({})).await];

    for target in replicas.iter().chain([&late]) {
        let end = last[1].sequence;
        eventually("the last event arrives", LONG, || target.taken().last() == Some(&end)).await;
    }
    let expected = replicas[0].taken();
    assert!(expected.len() >= 5000, "{}", expected.len());
    assert!(expected.is_sorted_by(|a, b| a < b), "strictly in the log's order");
    for target in replicas.iter().chain([&late]) {
        assert_eq!(target.taken(), expected, "the same sequences: no gap, nothing twice, nothing out of order");
    }
    // Each delivery names the one before it, so a replica can prove that it missed nothing.
    let late = late.received();
    let previous: Vec<u64> = late.iter().map(|r| r.headers["ce-previoussequence"].parse().unwrap()).collect();
    assert_eq!(previous[0], 0);
    assert_eq!(&previous[1..], &expected[..expected.len() - 1]);
    assert_eq!(late.first().unwrap().headers["ce-replay"], "true");
    assert_eq!(late.last().unwrap().headers["ce-replay"], "false");
}

#[tokio::test]
async fn every_event_accepted_after_a_registration_arrives_though_the_dispatcher_starts_late() {
    let nats = Nats::start();
    let front = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("receiver,registrar").start().await;
    let api = front.api();
    let target = Target::start().await;
    api.post_event("a", &json!({"before": true})).await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let mut expected = Vec::new();
    for _ in 0..50 {
        expected.push(api.post_event("a", &json!({})).await.sequence);
    }
    assert_eq!(target.taken_count(), 0);
    let _back = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("dispatcher").start().await;
    eventually("all have arrived", SOON, || target.taken_count() >= expected.len()).await;
    assert_eq!(target.taken(), expected);
}

#[tokio::test]
async fn an_event_that_somebody_else_takes_from_a_lanes_consumer_still_arrives_in_order() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    // A lane that is behind reads its consumer.
    let client = nats.client().await;
    for _ in 0..3_000 {
        client.publish("events.a", "{}".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    let mut expected: Vec<u64> = (1..=3_000).collect();
    target.answer(Answer::Status(500));
    api.register(&target.url("/"), &["a"], &json!({"datetime_start": FROM_THE_BEGINNING})).await;
    let is_held = async || api.subscription(&target.url("/")).await["status"]["state"] == "held";
    eventually_async("the lane is held", SOON, is_held).await;

    // As `nats consumer next` would: what it takes, the lane's own pulls do not get.
    let events = async_nats::jetstream::new(client).get_stream("EVENTS").await.unwrap();
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let consumer: async_nats::jetstream::consumer::PullConsumer = events.get_consumer(&id).await.unwrap();
    let thief = consumer.batch().max_messages(5).expires(SOON).messages().await.unwrap();
    let stolen = futures_util::StreamExt::count(thief).await;
    assert!(stolen > 0, "nothing was taken away");
    target.answer(Answer::Status(200));
    expected.push(api.post_event("a", &json!({})).await.sequence);
    eventually("all have arrived", LONG, || target.taken_count() >= expected.len()).await;
    assert_eq!(target.taken(), expected);
}

#[tokio::test]
async fn a_past_start_added_to_a_live_url_brings_the_past_and_nothing_twice() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        a.push(api.post_event("a", &json!({})).await.sequence);
        b.push(api.post_event("b", &json!({})).await.sequence);
    }
    eventually("the live type has arrived", SOON, || target.taken_count() == a.len()).await;
    api.register(&target.url("/"), &["b"], &json!({"datetime_start": FROM_THE_BEGINNING})).await;
    // What is accepted before the lane has heard of it may still come first: see `backfill`.
    eventually("the past begins", SOON, || target.taken().contains(&b[0])).await;
    let live = [api.post_event("a", &json!({})).await.sequence, api.post_event("b", &json!({})).await.sequence];
    let expected: Vec<u64> = a.into_iter().chain(b).chain(live).collect();
    eventually("past and present have arrived", SOON, || target.taken_count() >= expected.len()).await;
    assert_eq!(target.taken(), expected);
}
