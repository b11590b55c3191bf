//! The log's limits, as settings: what is removed, what is refused, and that neither passes in silence.

use async_nats::jetstream::{self, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{Answer, Mer, Nats, Target, eventually, eventually_async};

use crate::{MER, SOON, mer_on};

fn limited(nats: &Nats, settings: &[(&str, &str)]) -> Mer {
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url());
    settings.iter().fold(mer, |mer, (name, value)| mer.set(name, value))
}

async fn events(nats: &Nats) -> stream::Info {
    let context = jetstream::new(nats.client().await);
    context.get_stream("EVENTS").await.unwrap().get_info().await.unwrap()
}

#[tokio::test]
async fn a_full_log_that_refuses_what_is_new_answers_503_and_loses_nothing() {
    let nats = Nats::start();
    let settings = [("MER_EVENTS_MAX_COUNT", "5"), ("MER_EVENTS_DISCARD", "new"), ("MER_EVENTS_MAX_BYTES", "1000000")];
    let mer = limited(&nats, &settings).start().await;
    let has = events(&nats).await.config;
    assert_eq!((has.max_messages, has.max_bytes, has.discard), (5, 1_000_000, stream::DiscardPolicy::New));
    let api = mer.api();
    let target = Target::start().await;
    target.answer(Answer::Status(500));
    api.register(&target.url("/"), &["a"], &json!({})).await;
    for _ in 0..4 {
        api.post_event("a", &json!({})).await;
    }
    // A batch that does not fit is not stored in part.
    let event = |n: u32| json!({"specversion": "1.0", "id": n.to_string(), "source": "/s", "type": "a", "data": n});
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let body = json!([event(1), event(2), event(3)]).to_string();
    is_full(api.send(Method::POST, "/v1/events", &batch, body).await.unwrap()).await;
    assert_eq!(events(&nats).await.state.messages, 4);
    api.post_event("a", &json!({})).await;
    is_full(api.send(Method::POST, "/receive_event/a", &[], "{}").await.unwrap()).await;
    assert_eq!(events(&nats).await.state.last_sequence, 5);
    // What was accepted is all there, and registering and delivering go on.
    target.answer(Answer::Status(200));
    eventually("all that was accepted arrives", SOON, || target.taken() == [1, 2, 3, 4, 5]).await;
    jetstream::new(nats.client().await).get_stream("EVENTS").await.unwrap().purge().sequence(3).await.unwrap();
    let next = api.post_event("a", &json!({})).await.sequence;
    eventually("and what comes when there is room", SOON, || target.taken().last() == Some(&next)).await;
}

async fn is_full(response: reqwest::Response) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let problem: Value = response.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("not stored") && detail.contains("takes no more") && detail.contains("safe"), "{detail}");
}

#[tokio::test]
async fn a_full_log_that_removes_what_is_old_leaves_a_url_that_is_behind_in_a_gap() {
    let nats = Nats::start();
    let mer = limited(&nats, &[("MER_EVENTS_MAX_COUNT", "5"), ("MER_EVENTS_DISCARD", "old")]).start().await;
    let api = mer.api();
    let (sick, healthy) = (Target::start().await, Target::start().await);
    sick.answer(Answer::Status(500));
    for target in [&sick, &healthy] {
        api.register(&target.url("/"), &["a"], &json!({})).await;
    }
    for n in 1..=12 {
        api.post_event("a", &json!({})).await;
        eventually("the healthy one gets each", SOON, || healthy.taken().last() == Some(&n)).await;
    }
    assert_eq!(events(&nats).await.state.messages, 5);
    eventually_async("the one that is behind says so", SOON, async || {
        api.subscription(&sick.url("/")).await["status"]["state"] == "gap"
    })
    .await;
    let gap = api.subscription(&sick.url("/")).await["status"]["gap"].clone();
    // It may be noticed before the last ones are removed.
    assert!(gap["from_sequence"] == 1 && gap["to_sequence"].as_u64().is_some_and(|to| (1..=7).contains(&to)), "{gap}");
    assert_eq!(api.subscription(&healthy.url("/")).await["status"]["state"], "active");
}

#[tokio::test]
async fn what_is_set_is_given_to_a_log_that_exists_and_what_is_not_is_left_to_the_operator() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let has = events(&nats).await.config;
    assert_eq!((has.max_age.as_secs(), has.max_bytes, has.max_messages), (0, -1, -1), "without settings, no limit");
    mer.stop().await;
    let context = jetstream::new(nats.client().await);
    context.update_stream(stream::Config { max_bytes: 5_000_000, max_messages: 70, ..has }).await.unwrap();

    let settings = [("MER_EVENTS_MAX_AGE_SECS", "3600"), ("MER_EVENTS_MAX_COUNT", "0")];
    let mut mer = limited(&nats, &settings).start().await;
    let has = events(&nats).await.config;
    assert_eq!((has.max_age.as_secs(), has.max_bytes, has.max_messages), (3600, 5_000_000, -1));
    assert!(mer.log().contains("nats.limits_changed"), "it says so");
    mer.stop().await;
    // Without the settings again, it stays as it is.
    let _mer = mer_on(&nats).await;
    assert_eq!(events(&nats).await.config.max_age.as_secs(), 3600);
}
