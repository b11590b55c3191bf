//! What counts as stored: JetStream's acknowledgement, and nothing else that is answered.

use async_nats::jetstream;
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tests::Nats;
use tokio::task::JoinSet;

use crate::mer_on;

#[tokio::test]
async fn what_another_client_answers_on_an_events_subject_is_no_acknowledgement() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let client = nats.client().await;
    let mut heard = client.subscribe("events.>").await.unwrap();
    client.flush().await.unwrap();
    let mut answering = JoinSet::new();
    let impostor = client.clone();
    answering.spawn(async move {
        while let Some(message) = heard.next().await {
            if let Some(reply) = message.reply {
                impostor.publish(reply, r#"{"ok":true}"#.into()).await.unwrap();
            }
        }
    });
    jetstream::new(client).delete_stream("EVENTS").await.unwrap();
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "a"});
    for (path, content_type, body) in [
        ("/receive_event/a", "application/json", json!({})),
        ("/v1/events/a", "application/json", json!({})),
        ("/v1/events", "application/cloudevents-batch+json", json!([event("1"), event("2")])),
    ] {
        let response = api.send(Method::POST, path, &[("content-type", content_type)], body.to_string()).await.unwrap();
        let (status, problem) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!(status, 503, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("may or may not have been stored"), "{problem}");
    }
}
