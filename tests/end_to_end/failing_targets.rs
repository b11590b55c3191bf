//! A target that does not take events: they wait in order, and nobody else feels it.

use serde_json::json;
use tests::{Answer, Nats, Target, eventually};

use crate::{LONG, SOON, mer_on};

/// How a target is sick.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sickness {
    Answers500,
    Refuses,
    Hangs,
}

async fn events_wait_in_order_while_the_neighbour_gets_them(sickness: Sickness) {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (mut sick, healthy) = (Target::start().await, Target::start().await);
    for target in [&sick, &healthy] {
        api.register(&target.url("/"), &["a"], &json!({})).await;
    }
    let mut expected = vec![api.post_event("a", &json!({})).await.sequence];
    eventually("both are served", SOON, || sick.taken_count() + healthy.taken_count() == 2).await;

    match sickness {
        Sickness::Answers500 => sick.answer(Answer::Status(500)),
        Sickness::Refuses => sick.refuse().await,
        Sickness::Hangs => sick.answer(Answer::Hang),
    }
    for _ in 0..30 {
        expected.push(api.post_event("a", &json!({})).await.sequence);
    }
    eventually("the neighbour has everything", SOON, || healthy.taken() == expected).await;
    assert_eq!(sick.taken(), expected[..1], "the sick one has nothing new");
    // It is tried again and again, and the state says so.
    eventually("it was tried more than once", SOON, || mer.log().matches("delivery.attempted").count() >= 2).await;

    match sickness {
        Sickness::Refuses => sick.listen().await,
        Sickness::Answers500 | Sickness::Hangs => sick.answer(Answer::Status(200)),
    }
    eventually("the healed one has everything", LONG, || sick.taken_count() >= expected.len()).await;
    assert_eq!(sick.taken(), expected, "in order, each once");
    let refused: Vec<u64> = sick.received().iter().filter(|r| !r.was_taken).map(|r| r.sequence).collect();
    assert!(
        refused.iter().all(|sequence| *sequence == expected[1]),
        "only the first of those that wait is tried: {refused:?}"
    );
}

#[tokio::test]
async fn a_target_that_answers_500_gets_its_events_in_order_after_it_heals() {
    events_wait_in_order_while_the_neighbour_gets_them(Sickness::Answers500).await;
}

#[tokio::test]
async fn a_target_that_refuses_connections_gets_its_events_in_order_after_it_heals() {
    events_wait_in_order_while_the_neighbour_gets_them(Sickness::Refuses).await;
}

#[tokio::test]
async fn a_target_that_hangs_gets_its_events_in_order_after_it_heals() {
    events_wait_in_order_while_the_neighbour_gets_them(Sickness::Hangs).await;
}

#[tokio::test]
async fn unregistering_frees_a_url_from_the_event_that_it_cannot_take() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["bad", "good"], &json!({})).await;
    target.answer(Answer::Status(422));
    api.post_event("bad", &json!({})).await;
    let good = api.post_event("good", &json!({})).await.sequence;
    eventually("the bad one was refused", SOON, || !target.received().is_empty()).await;
    target.answer(Answer::Status(200));
    let answer = api.unregister(&target.url("/"), "bad").await;
    assert_eq!(answer, json!({"unregistered_for_events": {"bad": {target.url("/"): {}}}}));
    eventually("the good one arrives", SOON, || target.taken().contains(&good)).await;
    let twice = api.unregister(&target.url("/"), "bad").await;
    assert_eq!(twice["not_registered"], json!({"bad": {target.url("/"): {}}}));
}
