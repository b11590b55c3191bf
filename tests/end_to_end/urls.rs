//! URLs in odd spellings: what is accepted is stored so that it can be read, and is one subscription.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Nats, Target, eventually};

use crate::{SOON, mer_on};

async fn register(api: &Api, url: &str) -> (u16, Value) {
    let body = json!({"events_to_register": [{"event": "a", "urls_to_register": [{"url": url}]}]});
    let response = api.post("/register_for_events/", &body).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn ids(api: &Api) -> Vec<String> {
    let page = api.get("/v1/subscriptions").await;
    let id = |subscription: &Value| subscription["id"].as_str().unwrap().to_owned();
    page["subscriptions"].as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn a_url_is_bounded_as_it_is_stored_and_a_longer_one_that_is_stored_can_be_read_and_removed() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let (status, problem) = register(&api, &target.url(&format!("/b/{}", "ü".repeat(900)))).await;
    assert_eq!(
        (status, problem["errors"][0]["pointer"].as_str()),
        (422, Some("/events_to_register/0/urls_to_register/0/url"))
    );
    assert_eq!(ids(&api).await, [""; 0], "nothing was stored");
    let long = target.url(&format!("/b/{}", "ü".repeat(300)));
    assert_eq!(register(&api, &long).await.0, 200);
    let sequence = api.post_event("a", &json!({})).await.sequence;
    eventually("it is delivered", SOON, || target.taken() == [sequence]).await;
    assert_eq!(api.subscription(&long).await["status"]["state"], "active");

    // As an earlier build stored it.
    let mut stored = nats.value("SUBSCRIPTIONS", &long).await;
    stored["url"] = target.url(&format!("/c/{}", "%C3%BC".repeat(900))).into();
    let context = async_nats::jetstream::new(nats.client().await);
    let bucket = context.get_key_value("SUBSCRIPTIONS").await.unwrap();
    bucket.put("long_0123456789abcdef", stored.to_string().into()).await.unwrap();
    assert_eq!(ids(&api).await.len(), 2, "the list has it");
    let path = "/v1/subscriptions/long_0123456789abcdef";
    assert_eq!(api.get(path).await["url"], stored["url"]);
    assert_eq!(api.send(Method::DELETE, path, &[], "").await.unwrap().status(), 204);
    assert_eq!(ids(&api).await.len(), 1);
}

#[tokio::test]
async fn equal_spellings_of_a_url_are_one_subscription_and_an_old_one_keeps_its_own() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    for path in ["/%c3%bc%2f%73p", "/ü%2Fsp", "/%C3%BC%2Fsp"] {
        let (status, answer) = register(&api, &target.url(path)).await;
        assert_eq!(status, 200);
        assert!(answer["registered_for_events"]["a"].get(target.url(path)).is_some(), "as it was typed: {answer}");
        let body = json!({"url": target.url(path), "events": [{"type": "a"}]});
        let put = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
        let put: Value = put.json().await.unwrap();
        assert_eq!(put["url"], target.url("/%C3%BC%2Fsp"), "the one spelling");
    }
    assert_eq!(ids(&api).await.len(), 1);
    let sequence = api.post_event("a", &json!({})).await.sequence;
    eventually("the event arrives", SOON, || target.taken() == [sequence]).await;
    api.unregister(&target.url("/%c3%bc%2f%73p"), "a").await;
    assert_eq!(ids(&api).await, [""; 0]);

    // As an earlier build stored it, under the id of its own spelling.
    let old = target.url("/old%2fsp");
    assert_eq!(register(&api, &old).await.0, 200);
    let mut stored = nats.value("SUBSCRIPTIONS", &target.url("/old%2Fsp")).await;
    api.unregister(&old, "a").await;
    stored["url"] = old.clone().into();
    nats.put_value("SUBSCRIPTIONS", &old, &stored).await;
    let before = ids(&api).await;
    assert_eq!(register(&api, &old).await.0, 200);
    assert_eq!(ids(&api).await, before, "its replica does not become a second one");
    api.unregister(&old, "a").await;
    assert_eq!(ids(&api).await, [""; 0]);
}

#[tokio::test]
async fn what_is_no_url_is_refused_though_programs_mend_it() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for url in [
        "http:127.0.0.1/x",
        r"http:\\127.0.0.1\x",
        "http://127.0.0.1/x\ty",
        "http:////127.0.0.1/x",
        " http://127.0.0.1/x",
    ] {
        let (status, problem) = register(&api, url).await;
        assert_eq!((status, problem["errors"].as_array().map(Vec::len)), (422, Some(1)), "{url}: {problem}");
    }
    assert_eq!(ids(&api).await, [""; 0]);
}
