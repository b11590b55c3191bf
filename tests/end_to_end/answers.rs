//! What a target's answers mean: when it asks for time, says where it is, or wants nothing any more.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Api, Nats, Target, eventually, eventually_async};

use crate::{SOON, mer_on};

async fn status(api: &Api, target: &Target) -> Value {
    api.subscription(&target.url("/")).await["status"].clone()
}

async fn is_in(api: &Api, target: &Target, state: &str) {
    eventually_async(&format!("it is {state}"), SOON, async || status(api, target).await["state"] == state).await;
}

/// Calls `/v1/subscriptions/{id}/…` of a target; it must be accepted.
async fn call(api: &Api, method: Method, target: &Target, action: &str, body: &Value) {
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let response = api.send(method, &format!("/v1/subscriptions/{id}{action}"), &[], body.to_string()).await.unwrap();
    assert!(response.status().is_success(), "{}", response.text().await.unwrap());
}

async fn post(api: &Api, count: u64) {
    for _ in 0..count {
        api.post_event("a", &json!({})).await;
    }
}

#[tokio::test]
async fn a_target_that_asks_for_time_is_given_it() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    target.answer(Answer::Says(503, "retry-after", 1));
    post(&mer.api(), 1).await;
    eventually("it is tried three times", SOON, || target.received().len() >= 3).await;
    let at: Vec<_> = target.received().iter().map(|received| received.at).collect();
    assert!(at[1] - at[0] >= Duration::from_secs(1) && at[2] - at[1] >= Duration::from_secs(1), "{at:?}");
    target.answer(Answer::Status(200));
    eventually("it arrives", SOON, || target.taken() == [1]).await;
}

#[tokio::test]
async fn a_target_that_is_gone_gets_nothing_until_it_is_registered_again() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let (gone, other) = (Target::start().await, Target::start().await);
    for target in [&gone, &other] {
        api.register(&target.url("/"), &["a"], &json!({})).await;
    }
    post(&api, 1).await;
    eventually("the first arrives", SOON, || gone.taken() == [1]).await;
    gone.answer(Answer::Status(410));
    post(&api, 2).await;
    is_in(&api, &gone, "gone").await;
    assert_eq!(status(&api, &gone).await["stopped"]["sequence"], 2);
    gone.answer(Answer::Status(200));
    eventually("the other one has all three", SOON, || other.taken() == [1, 2, 3]).await;
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    post(&api, 1).await;
    eventually("the other one gets all", SOON, || other.taken() == [1, 2, 3, 4]).await;
    assert_eq!((gone.taken(), status(&api, &gone).await["state"].as_str()), (vec![1], Some("gone")));
    // In the same words again: what was promised and has not come is still owed.
    api.register(&gone.url("/"), &["a"], &json!({})).await;
    eventually("it gets what it has missed", SOON, || gone.taken() == [1, 2, 3, 4]).await;
    is_in(&api, &gone, "active").await;
}

#[tokio::test]
async fn a_target_that_says_where_it_is_goes_on_behind_that() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    post(&api, 5).await;
    eventually("five arrive", SOON, || target.taken_count() == 5).await;
    // It has been restored from a copy that knows two events: the third comes again, with all behind it.
    target.answer(Answer::Says(409, "resume-after", 2));
    api.post_event("a", &json!({})).await;
    eventually("it says so", SOON, || target.received().len() > 5).await;
    eventually("the third is tried", SOON, || target.received().iter().skip(5).any(|r| r.sequence == 3)).await;
    let third = target.received().into_iter().skip(5).find(|r| r.sequence == 3).unwrap();
    assert_eq!(third.headers["ce-previoussequence"], "00000000000000000002");
    target.answer(Answer::Status(200));
    eventually("all behind it come again", SOON, || target.taken() == [1, 2, 3, 4, 5, 3, 4, 5, 6]).await;
    // It has got some from elsewhere: they are passed over.
    call(&api, Method::POST, &target, "/pause", &Value::Null).await;
    post(&api, 4).await;
    target.answer(Answer::Says(409, "resume-after", 8));
    call(&api, Method::POST, &target, "/resume", &Value::Null).await;
    eventually("the ninth is tried", SOON, || target.received().iter().any(|r| r.sequence == 9)).await;
    target.answer(Answer::Status(200));
    eventually("it goes on", SOON, || target.taken().ends_with(&[6, 9, 10])).await;
    target.answer(Answer::Says(409, "resume-after", 1_000_000));
    post(&api, 1).await;
    // Beyond the end of the log nobody can be: a failed attempt, and nothing is skipped.
    eventually_async("it is held", SOON, async || status(&api, &target).await["state"] == "held").await;
    let error = status(&api, &target).await["last_attempt"]["error"].clone();
    assert_eq!(error, "answered 409");
    target.answer(Answer::Status(200));
    let next = api.post_event("a", &json!({})).await.sequence;
    eventually("the next one comes", SOON, || target.taken().last() == Some(&next)).await;
    assert_eq!(target.taken()[9..], [9, 10, next - 1, next]);
}

#[tokio::test]
async fn an_event_is_tried_as_often_as_is_asked_for_and_then_waits_or_ends_it() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for (on_exhausted, state) in [("hold", "held"), ("disable", "paused")] {
        let target = Target::start().await;
        target.answer(Answer::Status(500));
        let body = json!({"url": target.url("/"), "events": [{"type": "a"}], "delivery": {"max_attempts": 3, "on_exhausted": on_exhausted}});
        let response = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
        assert_eq!(response.status(), 201);
        let sequence = api.post_event("a", &json!({})).await.sequence;
        api.post_event("a", &json!({})).await;
        let given_up = async || {
            let status = status(&api, &target).await;
            status["state"] == state && (status["last_attempt"]["next_attempt"].is_null() || state == "paused")
        };
        eventually("three attempts are made", SOON, || target.received().len() == 3).await;
        eventually_async("it is given up", SOON, given_up).await;
        let disabled = async || api.metrics().await.sum("mer_lanes", &[("state", "disabled")]);
        let is_counted = async || disabled().await == Some(f64::from(u8::from(on_exhausted == "disable")));
        eventually_async("it is counted as what it is", SOON, is_counted).await;
        // Changing something else does not set it going; resuming does.
        call(&api, Method::PATCH, &target, "", &json!({"group": "g"})).await;
        eventually_async("that is heard", SOON, given_up).await;
        assert_eq!(target.received().len(), 3, "{on_exhausted}");
        target.answer(Answer::Status(200));
        call(&api, Method::POST, &target, "/resume", &Value::Null).await;
        eventually("both arrive", SOON, || target.taken() == [sequence, sequence + 1]).await;
        is_in(&api, &target, "active").await;
        api.unregister(&target.url("/"), "a").await;
    }
}

#[tokio::test]
async fn no_more_deliveries_begin_than_the_rate_allows() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let body = json!({"url": target.url("/"), "events": [{"type": "a"}], "delivery": {"rate_per_second": 10}});
    api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    post(&api, 12).await;
    eventually("all arrive", SOON, || target.taken_count() == 12).await;
    let received = target.received();
    let took = received[11].at - received[0].at;
    assert!(took >= Duration::from_secs(1), "eleven tenths of a second lie between them: {took:?}");
}
