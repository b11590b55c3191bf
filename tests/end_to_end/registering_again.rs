//! A replica registers each time that it starts: what that brings about, and what it does not.

use domain::Stamp;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Nats, Target, eventually};

use crate::{SOON, mer_on};

const FROM_THE_BEGINNING: &str = "20200101000000.0";

async fn call(api: &Api, method: Method, path: &str, body: &Value) -> Value {
    let response = api.send(method, &format!("/v1/subscriptions{path}"), &[], body.to_string()).await.unwrap();
    let (status, body) = (response.status(), response.text().await.unwrap());
    assert!(status.is_success(), "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn put(api: &Api, body: &Value) -> Value {
    call(api, Method::PUT, "", body).await
}

#[tokio::test]
async fn an_expiry_in_the_same_words_moves_the_end_and_brings_nothing_again() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.post_event("a", &json!({})).await;
    let events = json!([{"type": "a", "datetime_start": FROM_THE_BEGINNING, "expire_after": 600}]);
    let body = json!({"url": target.url("/"), "events": events});
    let made = put(&api, &body).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let end = |answer: &Value| Stamp::parse(answer["events"][0]["datetime_end"].as_str().unwrap()).unwrap();
    assert_eq!(made["events"][0]["expire_after"], Value::Null, "the end that it sets is shown");
    eventually("the past arrives", SOON, || target.taken() == [1]).await;
    let again = put(&api, &body).await;
    assert!(end(&again) > end(&made), "the end has moved");
    let patched = call(&api, Method::PATCH, &format!("/{id}"), &json!({"events": events})).await;
    assert!(end(&patched) > end(&again));
    // What was shown, sent back.
    let shown = json!({"url": target.url("/"), "events": patched["events"]});
    assert_eq!(end(&put(&api, &shown).await), end(&patched));
    put(&api, &body).await;
    api.post_event("a", &json!({})).await;
    eventually("the next arrives", SOON, || target.taken().last() == Some(&2)).await;
    assert_eq!(target.taken(), [1, 2]);
}
