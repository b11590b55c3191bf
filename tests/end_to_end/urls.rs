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
