//! NATS is away: senders are told so at once, and all goes on when it is back.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{Mer, Nats, Target, eventually, eventually_async};
use tokio::task::JoinSet;

use crate::{MER, SOON, mer_on};

const MUST_ANSWER_WITHIN: Duration = Duration::from_secs(5);

async fn is_told_to_come_back(mer: &Mer, path: &str, body: &Value) {
    let began = Instant::now();
    let response = mer.api().send(Method::POST, path, &[], body.to_string()).await.unwrap();
    assert!(began.elapsed() < MUST_ANSWER_WITHIN, "{path}: {:?}", began.elapsed());
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("safe"), "it says whether to send again: {problem}");
}

#[tokio::test]
async fn posts_get_503_while_nats_is_away_and_all_goes_on_when_it_is_back() {
    let mut nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    api.post_event("a", &json!({"n": 1})).await;
    eventually("the first event arrives", SOON, || target.taken_count() == 1).await;

    nats.kill();
    let registration = json!({"events_to_register": [{"event": "b", "urls_to_register": [{"url": target.url("/")}]}]});
    is_told_to_come_back(&mer, "/receive_event/a", &json!({"n": 2})).await;
    is_told_to_come_back(&mer, "/register_for_events/", &registration).await;
    assert_eq!(api.status("/healthz").await, Some(200));
    let readiness = api.send(Method::GET, "/readyz", &[], "").await.unwrap();
    assert_eq!(readiness.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = readiness.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("no connection"), "{problem}");
    for accept in ["application/json", "application/x-ndjson", "text/event-stream"] {
        let answer = api.send(Method::GET, "/v1/events", &[("accept", accept)], "").await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{accept}");
    }

    nats.restart();
    eventually_async("ready again", SOON, async || api.status("/readyz").await == Some(200)).await;
    let posted = api.post_event("a", &json!({"n": 3})).await;
    eventually("an event arrives again", SOON, || target.taken().last() == Some(&posted.sequence)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_subscription_that_wait_for_each_other_are_answered_in_time_too() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let (api, target) = (mer.api(), Target::start().await);
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    nats.freeze();
    let mut changing = JoinSet::new();
    for n in 0..6 {
        let (api, path) = (api.clone(), format!("/v1/subscriptions/{id}"));
        changing.spawn(async move {
            let began = Instant::now();
            let response = api.send(Method::PATCH, &path, &[], json!({"group": format!("g{n}")}).to_string()).await;
            (response.map(|response| response.status()).ok(), began.elapsed() < 2 * MUST_ANSWER_WITHIN)
        });
    }
    for outcome in changing.join_all().await {
        assert_eq!(outcome, (Some(StatusCode::SERVICE_UNAVAILABLE), true));
    }
    nats.thaw();
}

#[tokio::test]
async fn a_mer_that_starts_before_its_nats_answers_503_and_then_works() {
    let mut nats = Nats::start();
    nats.kill();
    let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url());
    mer.launch();
    let api = mer.api();
    eventually_async("alive", SOON, async || api.status("/healthz").await == Some(200)).await;
    assert_eq!(api.status("/readyz").await, Some(503));
    is_told_to_come_back(&mer, "/receive_event/a", &json!({})).await;
    nats.restart();
    mer.until_ready().await;
    assert_eq!(api.post_event("a", &json!({})).await.sequence, 1, "what was refused was not stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_bridges_a_short_restart_of_nats() {
    let mut nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    nats.kill();
    eventually("the loss is noticed", SOON, || mer.log().contains("nats.disconnected")).await;
    let data = json!({});
    let restart = tokio::task::spawn_blocking(move || {
        nats.restart();
        nats
    });
    let (posted, nats) = tokio::join!(api.post_event("a", &data), restart);
    assert_eq!(posted.sequence, 1);
    drop(nats);
}
