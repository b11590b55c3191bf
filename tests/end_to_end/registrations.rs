//! What a registration says, kept: whoever registers at the same time, and whatever is restarted.

use std::collections::BTreeSet;

use serde_json::json;
use tests::{Mer, Nats, Target, eventually, eventually_async};
use tokio::task::JoinSet;

use crate::{LONG, MER, SOON, mer_on};

const FROM_THE_BEGINNING: &str = "20200101000000.0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_registrations_of_one_url_at_once_all_survive() {
    let nats = Nats::start();
    // Four processes, so that they meet only in the bucket.
    let one = mer_on(&nats).await;
    let mut fronts = Vec::new();
    for _ in 0..3 {
        fronts.push(Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("registrar").start().await);
    }
    let apis: Vec<_> = fronts.iter().chain([&one]).map(Mer::api).collect();
    let target = Target::start().await;
    let mut registering = JoinSet::new();
    for i in 0..100 {
        let api = apis[i % apis.len()].clone();
        let url = target.url("/");
        registering.spawn(async move { api.register(&url, &[&format!("type.{i}")], &json!({})).await });
    }
    registering.join_all().await;
    let subscription = nats.value("SUBSCRIPTIONS", &target.url("/")).await;
    assert_eq!(subscription["entries"].as_object().unwrap().len(), 100);

    let mut expected = Vec::new();
    for i in 0..100 {
        expected.push(one.api().post_event(&format!("type.{i}"), &json!({})).await.sequence);
    }
    eventually("an event of each type arrives", LONG, || target.taken_count() >= 100).await;
    assert_eq!(target.taken(), expected);
}

#[tokio::test]
async fn a_count_is_exact_over_restarts() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let mut posted = Vec::new();
    for n in 0..10 {
        posted.push(api.post_event("a", &json!({"n": n})).await.sequence);
    }
    // Ten of the past and five of the present.
    api.register(&target.url("/"), &["a"], &json!({"datetime_start": FROM_THE_BEGINNING, "count": 15})).await;
    eventually("the past arrives", SOON, || target.taken_count() == 10).await;
    for n in 10..20 {
        if n % 3 == 0 {
            mer.kill();
            mer.launch();
            mer.until_ready().await;
        }
        posted.push(api.post_event("a", &json!({"n": n})).await.sequence);
    }
    eventually_async("the lane is completed", SOON, async || {
        nats.value("LANES", &target.url("/")).await["state"] == "completed"
    })
    .await;
    let arrived: BTreeSet<u64> = target.taken().into_iter().collect();
    assert_eq!(arrived, posted[..15].iter().copied().collect(), "exactly the first fifteen");
    let context = async_nats::jetstream::new(nats.client().await);
    let events = context.get_stream("EVENTS").await.unwrap();
    let consumers = async || events.get_info().await.unwrap().state.consumer_count;
    eventually_async("no consumer is left", SOON, async || consumers().await == 0).await;

    // Registered again, it starts anew.
    api.register(&target.url("/"), &["a"], &json!({"count": 1})).await;
    let next = api.post_event("a", &json!({})).await.sequence;
    eventually("one more arrives", SOON, || target.taken().last() == Some(&next)).await;
}

#[tokio::test]
async fn registering_again_while_events_wait_still_brings_them() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let mut expected = vec![api.post_event("a", &json!({})).await.sequence];
    eventually("the lane is live", SOON, || target.taken_count() == 1).await;
    target.refuse().await;
    for _ in 0..20 {
        expected.push(api.post_event("a", &json!({})).await.sequence);
    }
    // As a replica does when it comes up again; and again, because the answer of the first got lost.
    api.register(&target.url("/"), &["a"], &json!({})).await;
    api.register(&target.url("/"), &["a"], &json!({"priority": 5})).await;
    target.listen().await;
    expected.push(api.post_event("a", &json!({})).await.sequence);
    eventually("all that waited has arrived", LONG, || target.taken_count() >= expected.len()).await;
    assert_eq!(target.taken(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_events_that_nobody_wants_are_passed_over_without_a_pause() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let mut posting = JoinSet::new();
    for _ in 0..8 {
        let api = api.clone();
        posting.spawn(async move {
            for _ in 0..500 {
                api.post_event("a", &json!({"transaction_id": "of others"})).await;
            }
        });
    }
    posting.join_all().await;
    let wanted = api.post_event("a", &json!({"transaction_id": "wanted"})).await.sequence;
    let mine = json!({"transaction_id": "wanted"});
    api.register(&target.url("/"), &["a"], &mine).await;
    // Four thousand in less than two of the intervals at which a position is written.
    eventually("the one that is wanted arrives", std::time::Duration::from_secs(8), || target.taken() == [wanted])
        .await;
}

#[tokio::test]
async fn a_subscription_that_cannot_be_read_keeps_its_lane() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    api.post_event("a", &json!({})).await;
    eventually("the lane is live", SOON, || target.taken() == [1]).await;
    let good = nats.value("SUBSCRIPTIONS", &target.url("/")).await;
    nats.put_value("SUBSCRIPTIONS", &target.url("/"), "edited by hand").await;
    // At the start everything is listed, and what is not asked for any more is cleared away.
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    eventually("it is told", SOON, || mer.log().contains("supervisor.subscription_unreadable")).await;
    nats.put_value("SUBSCRIPTIONS", &target.url("/"), good).await;
    api.post_event("a", &json!({})).await;
    eventually("the lane goes on where it was", SOON, || target.taken_count() >= 2).await;
    assert_eq!(target.taken(), [1, 2]);
}

#[tokio::test]
async fn an_end_in_the_past_replays_up_to_it_inclusive_and_completes() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let mut posted = Vec::new();
    for n in 0..5 {
        posted.push(api.post_event("a", &json!({"n": n})).await);
    }
    let window = json!({"datetime_start": posted[1].stamp, "datetime_end": posted[3].stamp});
    api.register(&target.url("/"), &["a"], &window).await;
    eventually("the window arrives", SOON, || target.taken_count() >= 3).await;
    eventually_async("the lane is completed", LONG, async || {
        nats.value("LANES", &target.url("/")).await["state"] == "completed"
    })
    .await;
    let expected: Vec<u64> = posted[1..=3].iter().map(|p| p.sequence).collect();
    assert_eq!(target.taken(), expected);
}

#[tokio::test]
async fn an_expiry_ends_a_live_registration() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let witness = Target::start().await;
    api.register(&witness.url("/"), &["a"], &json!({})).await;
    let answer = api.register(&target.url("/"), &["a"], &json!({"expire_after": 4})).await;
    let attributes = &answer["registered_for_events"]["a"][target.url("/")];
    assert_eq!(attributes["expire_after"], 4);
    assert!(attributes["datetime_end"].is_string(), "the end that it sets is told: {attributes}");
    let before = api.post_event("a", &json!({})).await.sequence;
    eventually("an event before the end arrives", SOON, || target.taken() == [before]).await;
    eventually_async("the lane is completed", LONG, async || {
        nats.value("LANES", &target.url("/")).await["state"] == "completed"
    })
    .await;
    let after = api.post_event("a", &json!({})).await.sequence;
    eventually("another URL gets what comes after the end", SOON, || witness.taken().last() == Some(&after)).await;
    assert_eq!(target.taken(), [before]);
}

#[tokio::test]
async fn unregistering_the_last_event_leaves_nothing_behind() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    api.post_event("a", &json!({})).await;
    eventually("it arrives", SOON, || target.taken_count() == 1).await;
    api.unregister(&target.url("/"), "a").await;
    eventually_async("the lane is gone", SOON, async || nats.value("LANES", &target.url("/")).await.is_null()).await;

    // And so it is when the dispatcher was away at the time.
    api.register(&target.url("/"), &["a"], &json!({})).await;
    eventually_async("the lane is back", SOON, async || !nats.value("LANES", &target.url("/")).await.is_null()).await;
    assert!(mer.stop().await);
    let front = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("receiver,registrar").start().await;
    front.api().unregister(&target.url("/"), "a").await;
    mer.launch();
    mer.until_ready().await;
    eventually_async("the lane is gone again", SOON, async || nats.value("LANES", &target.url("/")).await.is_null())
        .await;
    let context = async_nats::jetstream::new(nats.client().await);
    let events = context.get_stream("EVENTS").await.unwrap();
    let consumers = async || events.get_info().await.unwrap().state.consumer_count;
    eventually_async("no consumer is left", SOON, async || consumers().await == 0).await;
}

#[tokio::test]
async fn overlapping_patterns_on_one_url_deliver_each_event_once() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["order.*", "*.created", "order.created"], &json!({})).await;
    let mut expected = Vec::new();
    for event_type in ["order.created", "order.paid", "user.created", "user.deleted", "order.created.late"] {
        let sequence = api.post_event(event_type, &json!({})).await.sequence;
        if !matches!(event_type, "user.deleted" | "order.created.late") {
            expected.push(sequence);
        }
    }
    expected.push(api.post_event("order.paid", &json!({})).await.sequence);
    eventually("the last arrives", SOON, || target.taken().last() == expected.last()).await;
    assert_eq!(target.taken(), expected);
}
