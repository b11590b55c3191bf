//! What retention removes before it could be delivered is told, and stops the lane; what nobody waited for is not.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Answer, Mer, Nats, Target, eventually, eventually_async};

use crate::{SOON, mer_on};

/// Cuts the log, as a limit of the stream or an operator does.
pub(crate) async fn remove_before(nats: &Nats, sequence: u64) {
    let events = async_nats::jetstream::new(nats.client().await).get_stream("EVENTS").await.unwrap();
    events.purge().sequence(sequence).await.unwrap();
}

async fn status(mer: &Mer, target: &Target) -> Value {
    mer.api().subscription(&target.url("/")).await["status"].clone()
}

#[tokio::test]
async fn a_lane_whose_next_event_was_removed_says_so_and_goes_on_when_it_is_resumed() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let (sick, careless, healthy) = (Target::start().await, Target::start().await, Target::start().await);
    sick.answer(Answer::Status(500));
    careless.answer(Answer::Status(500));
    for (target, attributes) in
        [(&sick, json!({})), (&careless, json!({"allow_gap": true})), (&healthy, json!({"priority": 1}))]
    {
        api.register(&target.url("/"), &["a"], &attributes).await;
    }
    for n in 0..10 {
        api.post_event("a", &json!({ "n": n })).await;
    }
    eventually("the healthy one has all", SOON, || healthy.taken().len() == 10).await;
    for target in [&sick, &careless] {
        eventually_async("the first one is held", SOON, async || status(&mer, target).await["state"] == "held").await;
    }
    remove_before(&nats, 6).await;
    let is_in = async |state: &str| status(&mer, &sick).await["state"] == state;
    eventually_async("the lane says so", SOON, async || is_in("gap").await).await;
    let gap = &status(&mer, &sick).await["gap"];
    assert_eq!((&gap["from_sequence"], &gap["to_sequence"]), (&json!(1), &json!(5)));
    assert!(mer.log().contains("lane.gap "), "it stands in the log");
    // Whoever said that a gap does not matter goes on, once the lane has noticed it.
    eventually("it is noticed", SOON, || mer.log().contains("lane.gap_allowed")).await;
    careless.answer(Answer::Status(200));
    eventually("what is left arrives", SOON, || careless.taken() == [6, 7, 8, 9, 10]).await;
    // It waits, over a restart too, though its target is well again.
    sick.answer(Answer::Status(200));
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    let last = api.post_event("a", &json!({})).await.sequence;
    eventually("the healthy one goes on", SOON, || healthy.taken().contains(&last)).await;
    assert_eq!((sick.taken_count(), status(&mer, &sick).await["state"].as_str()), (0, Some("gap")));
    // The log goes on being cut: whoever resumes goes on with what is left then.
    remove_before(&nats, 8).await;
    let id = api.subscription(&sick.url("/")).await["id"].as_str().unwrap().to_owned();
    assert_eq!(api.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.status(), 200);
    eventually("what is left arrives, in order", SOON, || sick.taken() == [8, 9, 10, 11]).await;
    eventually_async("it is active", SOON, async || status(&mer, &sick).await["state"] == "active").await;
    assert_eq!(healthy.taken(), (1..=11).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_lane_that_missed_nothing_is_not_disturbed_when_the_log_is_cut() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let (rare, busy) = (Target::start().await, Target::start().await);
    api.register(&rare.url("/"), &["rare"], &json!({})).await;
    api.register(&busy.url("/"), &["busy"], &json!({})).await;
    api.post_event("rare", &json!({})).await;
    for _ in 0..20 {
        api.post_event("busy", &json!({})).await;
    }
    eventually("all have arrived", SOON, || rare.taken().len() == 1 && busy.taken().len() == 20).await;
    // That nothing comes for a while is the condition: by that a lane knows that there is nothing for it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Each cut that goes beyond what it has written makes it look how far it has come.
    eventually_async("the lane has noted that it missed nothing", SOON, async || {
        let clear_to = nats.value("LANES", &rare.url("/")).await["clear_to"].as_u64().unwrap_or(0);
        remove_before(&nats, 20.min(clear_to + 3)).await;
        clear_to >= 21
    })
    .await;
    mer.kill();
    remove_before(&nats, 21).await;
    mer.launch();
    mer.until_ready().await;
    let next = api.post_event("rare", &json!({})).await.sequence;
    eventually("it goes on", SOON, || rare.taken() == [1, next]).await;
    assert!(!mer.log().contains("lane.gap"), "{}", mer.log());
}

#[tokio::test]
async fn what_is_removed_while_slow_targets_take_an_event_is_told_before_they_have_many_more() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut targets = Vec::new();
    for _ in 0..5 {
        targets.push(Target::start().await);
    }
    for target in &targets {
        api.register(&target.url("/"), &["a"], &json!({})).await;
        target.answer(Answer::After(Duration::from_millis(1500)));
    }
    api.post_event("a", &json!({})).await;
    eventually_async("it is being delivered", SOON, async || {
        api.post_event("a", &json!({})).await;
        api.post_event("a", &json!({})).await.sequence > 300
    })
    .await;
    // More than a lane has in hand.
    remove_before(&nats, 290).await;
    let taken: Vec<usize> = targets.iter().map(Target::taken_count).collect();
    for (target, before) in targets.iter().zip(taken) {
        eventually_async("the lane says so", SOON, async || status(&mer, target).await["state"] == "gap").await;
        let gap = &status(&mer, target).await["gap"];
        assert!(gap["from_sequence"].as_u64() > Some(1) && gap["to_sequence"] == 289, "{gap}");
        // There is always a next one in memory: the lane hears of it all the same, when it has been looked up.
        let more = target.taken_count() - before;
        assert!(more <= 4, "{more} more were delivered");
    }
}

#[tokio::test]
async fn asking_for_a_transaction_does_not_stop_a_url_though_the_log_was_cut() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let first = api.post_event("a", &json!({})).await;
    for _ in 0..5 {
        api.post_event("a", &json!({"transaction_id": "t"})).await;
    }
    remove_before(&nats, 4).await;
    api.register(&target.url("/"), &["a"], &json!({"transaction_id": "t"})).await;
    eventually("what is left of it arrives", SOON, || target.taken() == [4, 5, 6]).await;
    let shown = status(&mer, &target).await;
    assert_eq!(
        (&shown["state"], &shown["gap"]["from_sequence"], &shown["gap"]["to_sequence"]),
        (&json!("active"), &json!(1), &json!(3))
    );
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let replay = api.post(&format!("/v1/subscriptions/{id}/replay"), &json!({"from": "2020-01-01T00:00:00Z"})).await;
    let problem = replay.text().await.unwrap();
    assert!(problem.contains("the oldest event there is is from") && !problem.contains("allow_gap"), "{problem}");
    // Of one whose id tells that it began with what is left, nothing is missing.
    let (own, careless) = (Target::start().await, Target::start().await);
    let late = api.post_event("c", &json!({})).await;
    api.register(&own.url("/"), &["c"], &json!({"transaction_id": late.stamp})).await;
    assert_eq!(status(&mer, &own).await["gap"], Value::Null);
    api.register(&careless.url("/"), &["c"], &json!({"transaction_id": "t", "allow_gap": true})).await;
    assert_eq!(status(&mer, &careless).await["gap"], Value::Null);
    api.register(&target.url("/"), &["b"], &json!({"transaction_id": first.stamp})).await;
    let next = api.post_event("a", &json!({"transaction_id": "t"})).await.sequence;
    eventually("it goes on", SOON, || target.taken() == [4, 5, 6, next]).await;
}
