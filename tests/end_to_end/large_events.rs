//! Events that nats-server would not take so today: they are delivered all the same.

use serde_json::json;
use tests::{Mer, Nats, Target, eventually};

use crate::{MER, SOON};

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
