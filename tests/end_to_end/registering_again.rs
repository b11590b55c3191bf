//! A replica registers each time that it starts: what that brings about, and what it does not.

use domain::Stamp;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Api, Nats, Target, eventually, eventually_async};

use crate::{LONG, SOON, mer_on};

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

#[tokio::test]
async fn whichever_call_registers_a_held_url_has_its_event_tried_at_once_and_a_pause_stays() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let body = json!({"url": target.url("/"), "events": [{"type": "a"}]});
    assert_eq!(put(&api, &body).await["replays"], false, "there is nothing from before");
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let state = async || api.subscription(&target.url("/")).await["status"]["state"].as_str().unwrap().to_owned();
    for call_of in ["put", "patch", "register"] {
        // Left alone for an hour.
        target.answer(Answer::Says(503, "retry-after", 3600));
        let sequence = api.post_event("a", &json!({})).await.sequence;
        eventually_async("it is held", SOON, async || state().await == "held").await;
        target.answer(Answer::Status(200));
        match call_of {
            "put" => drop(put(&api, &body).await),
            "patch" => drop(call(&api, Method::PATCH, &format!("/{id}"), &json!({"events": body["events"]})).await),
            _ => drop(api.register(&target.url("/"), &["a"], &json!({})).await),
        }
        eventually("it is tried at once", SOON, || target.taken().last() == Some(&sequence)).await;
    }
    // What is exhausted and held, too; and what is disabled.
    for on_exhausted in ["hold", "disable"] {
        target.answer(Answer::Status(500));
        let delivery = json!({"max_attempts": 2, "on_exhausted": on_exhausted});
        let body = json!({"url": target.url("/"), "events": [{"type": "a"}], "delivery": delivery});
        put(&api, &body).await;
        let tried = target.received().len();
        let sequence = api.post_event("a", &json!({})).await.sequence;
        eventually("it was tried so often", LONG, || target.received().len() == tried + 2).await;
        let word = if on_exhausted == "hold" { "held" } else { "paused" };
        let is_exhausted = async || {
            let status = api.subscription(&target.url("/")).await["status"].clone();
            status["state"] == word
                && (status["stopped"]["why"] == "exhausted" || status["last_attempt"]["next_attempt"].is_null())
        };
        eventually_async("it is exhausted", SOON, is_exhausted).await;
        target.answer(Answer::Status(200));
        put(&api, &body).await;
        eventually("registering tries it", SOON, || target.taken().last() == Some(&sequence)).await;
    }
    // A pause stays, and is told.
    call(&api, Method::POST, &format!("/{id}/pause"), &Value::Null).await;
    let answer = put(&api, &body).await;
    assert_eq!((&answer["status"]["state"], &answer["replays"]), (&json!("paused"), &json!(false)));
    assert!(answer["hint"].as_str().unwrap().contains("/resume"), "{answer}");
    call(&api, Method::POST, &format!("/{id}/resume"), &Value::Null).await;
    let answer = put(&api, &body).await;
    assert!(answer["hint"].as_str().unwrap().contains("/replay"), "{answer}");
    let anew = json!({"url": target.url("/"), "events": [{"type": "a"}], "start": {"after": 0}});
    let answer = put(&api, &anew).await;
    assert_eq!((&answer["replays"], &answer["hint"]), (&json!(true), &Value::Null), "{answer}");
    assert_eq!(api.subscription(&target.url("/")).await.get("replays"), None, "only a call that registers says so");
}
