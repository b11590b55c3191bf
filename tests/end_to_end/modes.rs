//! Deliveries that are batched or concurrent: what is promised of order, retries and counts, and how modes change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Api, Nats, Received, Target, eventually, eventually_async};

use tests::target::first_deliveries;

use crate::{LONG, SOON, mer_on};

/// Registers a target for `a` from the log's beginning. Answers with the subscription's id.
async fn subscribe(api: &Api, target: &Target, attributes: &Value, delivery: Value) -> String {
    let mut event = json!({"type": "a", "datetime_start": "20200101000000.0"});
    event.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
    let body = json!({"url": target.url("/"), "events": [event], "delivery": delivery});
    let response = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(response.status(), 201);
    let subscription: Value = response.json().await.unwrap();
    assert_eq!(subscription["delivery"]["mode"], body["delivery"]["mode"]);
    subscription["id"].as_str().unwrap().to_owned()
}

async fn change(api: &Api, id: &str, delivery: Value) {
    let body = json!({ "delivery": delivery }).to_string();
    let response = api.send(Method::PATCH, &format!("/v1/subscriptions/{id}"), &[], body).await.unwrap();
    assert_eq!(response.status(), 200);
}

async fn status(api: &Api, target: &Target) -> Value {
    api.subscription(&target.url("/")).await["status"].clone()
}

/// Posts so many events of some transactions in turn.
async fn post(api: &Api, count: u64, transactions: u64) {
    for n in 0..count {
        api.post_event("a", &json!({"transaction_id": format!("T{}", n % transactions)})).await;
    }
}

fn sizes(received: &[Received]) -> Vec<usize> {
    received.iter().map(|received| received.sequences.len()).collect()
}

/// The most requests that were under way at a time.
fn most_at_a_time(received: &[Received]) -> usize {
    let at = |moment| received.iter().filter(|r| r.began <= moment && moment < r.at).count();
    received.iter().map(|received| at(received.began)).max().unwrap_or(0)
}

/// The requests that were taken, by the transaction of their event.
fn by_transaction(received: Vec<Received>) -> BTreeMap<String, Vec<Received>> {
    let mut transactions: BTreeMap<String, Vec<Received>> = BTreeMap::new();
    for received in received.into_iter().filter(|received| received.was_taken) {
        transactions.entry(received.headers["ce-transactionid"].clone()).or_default().push(received);
    }
    transactions
}

#[tokio::test]
async fn a_batch_that_a_proxy_does_not_take_comes_in_smaller_ones() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for n in 0..40 {
        api.post_event("a", &json!({"n": n, "text": "x".repeat(15_000)})).await;
    }
    let (limited, asks) = (Target::start().await, Target::start().await);
    limited.answer(Answer::AtMost(100_000));
    let dead_letters = json!({"mode": "batched", "max_attempts": 1, "on_exhausted": "dead_letter"});
    subscribe(&api, &limited, &json!({}), dead_letters).await;
    subscribe(&api, &asks, &json!({}), json!({"mode": "batched", "batch_max_bytes": 50_000})).await;
    eventually("all arrive", SOON, || limited.taken().len() == 40 && asks.taken().len() == 40).await;
    for target in [&limited, &asks] {
        assert_eq!(target.taken(), (1..=40).collect::<Vec<u64>>());
    }
    assert!(limited.received().iter().any(|received| !received.was_taken), "the first one is too large");
    assert_eq!(status(&api, &limited).await["events"]["a"]["dead_lettered"], 0);
    assert_eq!(sizes(&asks.received()).into_iter().max(), Some(3), "50 KB of data");
}

#[tokio::test]
async fn a_batch_has_many_events_in_order_and_each_names_the_one_before() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    post(&api, 250, 7).await;
    let target = Target::start().await;
    subscribe(&api, &target, &json!({"listener_data": {"n": 1}}), json!({"mode": "batched", "batch_max_events": 60}))
        .await;
    eventually("all arrive", SOON, || target.taken().len() == 250).await;
    let last = api.post_event("a", &json!({})).await.sequence;
    eventually("a live one too", SOON, || target.taken().last() == Some(&last)).await;
    assert_eq!(target.taken(), (1..=251).collect::<Vec<u64>>());
    let received = target.received();
    let sizes = sizes(&received);
    assert!(sizes.iter().max() == Some(&60) && sizes.len() <= 25, "{sizes:?}");
    let mut previous = 0;
    for event in received.iter().flat_map(|r| serde_json::from_str::<Vec<Value>>(&r.body).unwrap()) {
        assert_eq!(event["previoussequence"], format!("{previous:020}"));
        previous = event["sequence"].as_str().unwrap().parse::<u64>().unwrap();
        let (is_replay, data) = (previous <= 250, &event["data"]);
        assert_eq!((&event["replay"], &event["listenerdata"]), (&json!(is_replay), &json!("{\"n\":1}")));
        assert_eq!((&event["specversion"], &event["transactionid"]), (&json!("1.0"), &data["transaction_id"]));
    }
    eventually_async("the position is told", SOON, async || status(&api, &target).await["position"] == last).await;
}

#[tokio::test]
async fn a_batch_that_is_not_taken_comes_again_as_it_was() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    post(&api, 5, 1).await;
    let target = Target::start().await;
    target.answer(Answer::Status(503));
    let id = subscribe(&api, &target, &json!({}), json!({"mode": "batched", "batch_max_wait_ms": 100})).await;
    eventually("it is tried again", SOON, || target.received().len() >= 3).await;
    post(&api, 5, 1).await;
    assert_eq!(status(&api, &target).await["position"], 0);
    target.answer(Answer::Status(200));
    eventually("all arrive", SOON, || target.taken().len() == 10).await;
    let received = target.received();
    let (taken, refused): (Vec<_>, Vec<_>) = received.iter().partition(|received| received.was_taken);
    assert!(refused.iter().all(|received| received.body == refused[0].body), "the same each time");
    assert_eq!(taken[0].body, refused[0].body, "what came in meanwhile comes behind it");
    assert_eq!(target.taken(), (1..=10).collect::<Vec<u64>>());
    let path = format!("/v1/subscriptions/{id}/attempts?outcome=failed");
    let failed = async || api.get(&path).await["attempts"].as_array().unwrap().clone();
    eventually_async("the attempts are told", SOON, async || failed().await.len() == refused.len()).await;
    let first = failed().await.pop().unwrap();
    assert_eq!((&first["sequence"], &first["to_sequence"], &first["attempt"]), (&json!(1), &json!(5), &json!(1)));
}

#[tokio::test]
async fn a_batch_waits_as_long_as_it_may_or_until_it_is_full() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let patient = json!({"mode": "batched", "batch_max_events": 5, "batch_max_wait_ms": 60_000});
    let id = subscribe(&api, &target, &json!({}), patient).await;
    post(&api, 9, 1).await;
    eventually("a full one comes at once", SOON, || target.taken() == [1, 2, 3, 4, 5]).await;
    assert_eq!(sizes(&target.received()), [5]);
    // A change of the settings does not wait for it.
    change(&api, &id, json!({"batch_max_wait_ms": 1})).await;
    eventually("the rest comes", SOON, || target.taken().len() == 9).await;
    assert_eq!(target.taken(), (1..=9).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_batch_with_a_poisonous_event_is_taken_apart() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    post(&api, 8, 1).await;
    let target = Target::start().await;
    target.answer(Answer::StatusTo(vec![3, 6], 500));
    let delivery =
        json!({"mode": "batched", "max_attempts": 2, "on_exhausted": "dead_letter", "batch_max_wait_ms": 100});
    subscribe(&api, &target, &json!({}), delivery).await;
    eventually("the others arrive", SOON, || target.taken() == [1, 2, 4, 5, 7, 8]).await;
    let letters = async || api.get("/v1/dead-letters").await["dead_letters"].as_array().unwrap().clone();
    eventually_async("there is a letter of each", SOON, async || letters().await.len() == 2).await;
    let sequences: BTreeSet<u64> =
        letters().await.iter().map(|letter| letter["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, BTreeSet::from([3, 6]));
    post(&api, 2, 1).await;
    eventually("it goes on in batches", SOON, || target.taken().ends_with(&[9, 10])).await;
    assert_eq!(status(&api, &target).await["events"]["a"]["dead_lettered"], 2);
}

#[tokio::test]
async fn a_count_is_exact_in_every_mode() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    post(&api, 20, 20).await;
    for delivery in
        [json!({"mode": "ordered"}), json!({"mode": "batched"}), json!({"mode": "concurrent", "concurrency": 8})]
    {
        let target = Target::start().await;
        target.answer(Answer::After(Duration::from_millis(20)));
        subscribe(&api, &target, &json!({"count": 7}), delivery.clone()).await;
        eventually_async("it completes", SOON, async || status(&api, &target).await["state"] == "completed").await;
        let taken: BTreeSet<u64> = target.taken().into_iter().collect();
        assert_eq!((taken, target.taken().len()), ((1..=7).collect(), 7), "{delivery}");
    }
}

#[tokio::test]
async fn transactions_go_side_by_side_and_each_in_order() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    post(&api, 60, 12).await;
    let target = Target::start().await;
    target.answer(Answer::After(Duration::from_millis(20)));
    subscribe(&api, &target, &json!({}), json!({"mode": "concurrent", "concurrency": 4})).await;
    eventually("all arrive", SOON, || target.taken().len() == 60).await;
    let received = target.received();
    assert!((2..=4).contains(&most_at_a_time(&received)), "{}", most_at_a_time(&received));
    let transactions = by_transaction(received);
    assert_eq!(transactions.len(), 12);
    for (transaction, received) in transactions {
        let one_after_the_other =
            |pair: &[Received]| pair[0].sequence < pair[1].sequence && pair[0].at <= pair[1].began;
        assert!(received.windows(2).all(one_after_the_other), "{transaction}");
        assert_eq!(received.len(), 5);
    }
    eventually_async("the position is told", SOON, async || status(&api, &target).await["position"] == 60).await;
}

#[tokio::test]
async fn a_transaction_that_is_held_holds_no_other_and_what_was_had_is_known_after_a_restart() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    post(&api, 30, 3).await;
    let target = Target::start().await;
    // The second event of the transaction T1, and so all behind it there.
    target.answer(Answer::StatusTo(vec![5], 503));
    let delivery = json!({"mode": "concurrent", "concurrency": 4});
    subscribe(&api, &target, &json!({}), delivery).await;
    eventually("the others arrive", SOON, || target.taken().len() == 21).await;
    eventually_async("it is told", SOON, async || status(&api, &target).await["state"] == "held").await;
    assert_eq!(status(&api, &target).await["position"], 4);
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    target.answer(Answer::Status(200));
    eventually("the rest arrives", SOON, || target.taken().len() >= 30).await;
    eventually_async("the position is told", SOON, async || status(&api, &target).await["position"] == 30).await;
    assert_eq!(target.taken().len(), 30, "nothing twice: {:?}", target.taken());
    for received in by_transaction(target.received()).values() {
        assert!(received.is_sorted_by_key(|received| received.sequence));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_mode_loses_repeats_and_reorders_nothing() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    target.answer(Answer::After(Duration::from_millis(1)));
    let id = subscribe(&api, &target, &json!({}), json!({"mode": "ordered"})).await;
    let mut last = 0;
    for _ in 0..6 {
        for delivery in [
            json!({"mode": "batched", "batch_max_events": 7}),
            json!({"mode": "concurrent", "concurrency": 5}),
            json!({"mode": "ordered"}),
        ] {
            for _ in 0..10 {
                last = api.post_event("a", &json!({"transaction_id": "T"})).await.sequence;
            }
            change(&api, &id, delivery).await;
        }
    }
    eventually("all arrive", SOON, || target.taken().last() == Some(&last)).await;
    assert_eq!(target.taken(), (1..=last).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_reorder_nothing_in_any_mode() {
    const ROUNDS: u64 = 6;
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let (batched, concurrent) = (Target::start().await, Target::start().await);
    for target in [&batched, &concurrent] {
        target.answer(Answer::After(Duration::from_millis(3)));
    }
    subscribe(&api, &batched, &json!({}), json!({"mode": "batched", "batch_max_events": 10})).await;
    subscribe(&api, &concurrent, &json!({}), json!({"mode": "concurrent", "concurrency": 6})).await;
    let mut posted = 0;
    for round in 1..=ROUNDS {
        post(&api, 60, 9).await;
        posted += 60;
        let some = usize::try_from(posted - 30).unwrap();
        eventually("some arrive", LONG, || batched.taken().len() >= some && concurrent.taken().len() >= some).await;
        if round < ROUNDS {
            mer.kill();
            mer.launch();
            mer.until_ready().await;
        }
    }
    let all: Vec<u64> = (1..=posted).collect();
    let everything = |target: &Target| {
        let mut first = first_deliveries(&target.taken());
        first.sort_unstable();
        first == all
    };
    eventually("all arrive", LONG, || everything(&batched) && everything(&concurrent)).await;
    assert_eq!(first_deliveries(&batched.taken()), all);
    for (transaction, received) in by_transaction(concurrent.received()) {
        let taken: Vec<u64> = received.iter().map(|received| received.sequence).collect();
        assert!(first_deliveries(&taken).is_sorted(), "{transaction}: {taken:?}");
    }
}
