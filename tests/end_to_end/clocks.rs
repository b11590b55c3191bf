//! Times that another process's clock gave, and times that no clock gives: what they start is neither lost nor empty.

use domain::Stamp;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Nats, Target, eventually};

use crate::{SOON, mer_on};

/// Stores an event whose time is as far ahead as that of a receiver with another clock. Answers the time.
async fn post_ahead(api: &Api, id: u64, seconds: i64) -> String {
    let time = Stamp::now().plus_micros(seconds * 1_000_000).to_rfc3339();
    let event =
        json!({"specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "a", "time": time, "data": {}});
    let headers = [("content-type", "application/cloudevents+json")];
    let response = api.send(Method::POST, "/v1/events", &headers, event.to_string()).await.unwrap();
    assert_eq!(response.status(), 201);
    time
}

#[tokio::test]
async fn a_start_at_the_time_that_was_just_answered_brings_that_event_though_the_receivers_clock_is_ahead() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (registered, put) = (Target::start().await, Target::start().await);
    api.post_event("a", &json!({})).await;
    let time = post_ahead(&api, 2, 2).await;
    let answer = api.register(&registered.url("/"), &["a"], &json!({"datetime_start": time})).await;
    assert_eq!(answer["registered_for_events"]["a"].as_object().map(serde_json::Map::len), Some(1), "{answer}");
    let body = json!({"url": put.url("/"), "events": [{"type": "a", "datetime_start": time}]});
    assert_eq!(api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap().status(), 201);
    for target in [&registered, &put] {
        eventually("it arrives, and what was before does not", SOON, || target.taken() == [2]).await;
    }
    // The same moment for a redelivery.
    let id = api.subscription(&put.url("/")).await["id"].as_str().unwrap().to_owned();
    let response = api.post(&format!("/v1/subscriptions/{id}/replay"), &json!({"from": time})).await;
    assert_eq!(response.status(), 202, "it is not in the future");
    eventually("it arrives again", SOON, || put.taken() == [2, 2]).await;
}

#[tokio::test]
async fn a_start_before_what_the_server_can_count_is_the_logs_beginning() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    api.post_event("a", &json!({})).await;
    api.post_event("a", &json!({})).await;
    for start in ["0001-01-01T00:00:00Z", "16010101000000.0", "1677-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        let target = Target::start().await;
        api.register(&target.url("/"), &["a"], &json!({"datetime_start": start})).await;
        eventually("the past arrives", SOON, || target.taken() == [1, 2]).await;
        let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
        let response = api.post(&format!("/v1/subscriptions/{id}/replay"), &json!({"from": start})).await;
        assert_eq!(response.status(), 202);
        eventually("it arrives again", SOON, || target.taken() == [1, 2, 1, 2]).await;
        let page: Value = api.get(&format!("/v1/events?from={start}")).await;
        assert_eq!(page["events"].as_array().map(Vec::len), Some(2), "{start}");
    }
    for end in ["2262-04-12T00:00:00Z", "9999-12-31T23:59:59Z"] {
        assert_eq!(api.get(&format!("/v1/events?from={end}")).await, json!({"events": [], "next": null}), "{end}");
    }
}
