//! Events that are too large for NATS, as it is set today: they are refused as such; those that are stored are delivered.

use async_nats::jetstream;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Mer, Nats, Target, eventually};

use crate::{MER, SOON, mer_on};

#[tokio::test]
async fn an_event_from_a_time_when_larger_ones_were_taken_is_delivered() {
    let mut nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_MAX_BODY_BYTES", 6 * 1024 * 1024);
    let mut mer = mer.start().await;
    let api = mer.api();
    let first = api.post_event("a", &json!({})).await;
    let larger_than_what_is_asked_for = "x".repeat(5 * 1024 * 1024);
    api.post_event("a", &json!({ "text": larger_than_what_is_asked_for })).await;
    api.post_event("a", &json!({})).await;
    assert!(mer.stop().await);
    nats.kill();
    nats.restart_with("max_payload: 1MB");
    mer.launch();
    mer.until_ready().await;
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({"datetime_start": first.stamp})).await;
    eventually("all come, in order", SOON, || target.taken() == [1, 2, 3]).await;
}

#[tokio::test]
async fn an_event_that_can_never_be_stored_is_too_large_whatever_makes_it_so() {
    let nats = Nats::start_with("max_payload: 16384");
    let mer = mer_on(&nats).await;
    let api = mer.api();
    // The names of its attributes have to be counted too.
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "a", "data": "x".repeat(12_000)});
    for n in 0..64 {
        event[format!("{}{n:03}", "a".repeat(60))] = "1".into();
    }
    let headers = [("content-type", "application/cloudevents+json")];
    let response = api.send(Method::POST, "/v1/events", &headers, event.to_string()).await.unwrap();
    assert_eq!(response.status(), 413, "{}", response.text().await.unwrap());

    let context = jetstream::new(nats.client().await);
    let mut config = context.get_stream("EVENTS").await.unwrap().cached_info().config.clone();
    config.max_message_size = 1_000;
    context.update_stream(config).await.unwrap();
    let large =
        |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "a", "data": "x".repeat(2_000)});
    for (path, content_type, body) in [
        ("/v1/events/a", "application/json", large("2")),
        ("/receive_event/a", "application/json", large("2")),
        ("/v1/events", "application/cloudevents-batch+json", json!([large("2"), large("3")])),
    ] {
        let response = api.send(Method::POST, path, &[("content-type", content_type)], body.to_string()).await.unwrap();
        let (status, problem) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!(status, 413, "{path}: {problem}");
    }
    assert_eq!(api.post_event("a", &json!({})).await.sequence, 1);
}
