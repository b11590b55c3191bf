//! An idempotency key, a redirect, and the headers of an answer.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Nats, Target, eventually};

use crate::{SOON, mer_on};

#[tokio::test]
async fn the_same_key_gives_the_first_answer_again_and_stores_nothing() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let post = async |path: &str, key: &str, data: &str| {
        let response = api.send(Method::POST, path, &[("idempotency-key", key)], data.to_owned()).await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        (header("event-sequence"), header("event-id"), header("event-time"), response.text().await.unwrap())
    };
    let first = post("/receive_event/a", "key 1", r#"{"n":1}"#).await;
    let again = post("/receive_event/a", "key 1", r#"{"n":1}"#).await;
    assert_eq!(first, again);
    assert_eq!(post("/receive_event/b/", "key 1", r#"{"n":1}"#).await.0, "2", "another type has keys of its own");
    assert_eq!(post("/receive_event/a", "key 2", r#"{"n":1}"#).await.0, "3");
    assert_eq!(api.post_event("a", &json!({})).await.sequence, 4);
}

#[tokio::test]
async fn what_was_there_already_is_marked() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "a"});
    let (structured, batch) = ("application/cloudevents+json", "application/cloudevents-batch+json");
    let send = async |path: &str, content_type: &str, body: &Value| {
        let headers = [("content-type", content_type), ("idempotency-key", "k")];
        let headers = if path == "/v1/events" { &headers[..1] } else { &headers };
        let response = api.send(Method::POST, path, headers, body.to_string()).await.unwrap();
        let is_marked = response.headers().get("event-duplicate").is_some_and(|value| value == "true");
        (is_marked, response.json::<Value>().await.unwrap())
    };
    for (path, content_type, body) in [
        ("/receive_event/b", "application/json", json!({"n": 1})),
        ("/v1/events/c", "application/json", json!(1)),
        ("/v1/events", structured, event("1")),
        ("/v1/events", batch, json!([event("2"), event("3")])),
    ] {
        let (first, again) = (send(path, content_type, &body).await, send(path, content_type, &body).await);
        assert_eq!((first.0, again.0), (false, true), "{path} {content_type}");
        let Some(events) = again.1["events"].as_array() else { continue };
        assert!(events.iter().all(|event| event["duplicate"] == true), "{events:?}");
        assert!(first.1["events"].as_array().unwrap().iter().all(|event| event.get("duplicate").is_none()));
    }
    let (is_marked, mixed) = send("/v1/events", batch, &json!([event("3"), event("4"), event("4")])).await;
    let marks: Vec<bool> = mixed["events"].as_array().unwrap().iter().map(|event| event["duplicate"] == true).collect();
    assert_eq!((is_marked, marks), (false, vec![true, false, true]));
}

#[tokio::test]
async fn a_redirect_url_sends_the_sender_on_once_the_event_is_stored() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let data = json!({"redirect_url": "https://shop.example/thanks?order=1"});
    let response = api.post("/receive_event/a", &data).await;
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], "https://shop.example/thanks?order=1");
    assert_eq!(response.headers()["event-sequence"], "1");
    eventually("it is delivered like any other", SOON, || target.taken() == [1]).await;
}

#[tokio::test]
async fn a_delivery_is_a_cloudevent_in_binary_mode() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/in"), &["größe.*"], &json!({})).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = r#"{ "n": 12345678901234567890123, "transaction_id": "T 1" }"#;
    let path = "/receive_event/gr%C3%B6%C3%9Fe.neu";
    let response = api.send(Method::POST, path, &[("traceparent", traceparent)], body).await.unwrap();
    assert_eq!(response.status(), 200);
    let (id, time) = (response.headers()["event-id"].clone(), response.headers()["event-time"].clone());
    let answer: Value = response.json().await.unwrap();
    assert!(answer["event_received"]["event"].as_str().unwrap().starts_with("größe.neu:"));
    eventually("it arrives", SOON, || target.taken_count() == 1).await;
    let received = &target.received()[0];
    assert_eq!(received.path, "/in");
    assert_eq!(received.body, r#"{"n":12345678901234567890123,"transaction_id":"T 1"}"#);
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", id.to_str().unwrap()),
        ("ce-type", "gr%C3%B6%C3%9Fe.neu"),
        ("ce-source", "/receive_event"),
        ("ce-time", time.to_str().unwrap()),
        ("ce-transactionid", "T%201"),
        ("ce-sequence", "00000000000000000001"),
        ("ce-previoussequence", "00000000000000000000"),
        ("ce-replay", "false"),
        ("traceparent", traceparent),
    ] {
        assert_eq!(received.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
}
