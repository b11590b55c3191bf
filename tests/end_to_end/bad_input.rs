//! Bad input gets a clear problem that names what was wrong, and nothing is stored.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::Nats;

use crate::mer_on;

async fn problem(response: Response, status: u16, what: &str) -> Value {
    assert_eq!(response.status(), status, "{what}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status, "{what}: {problem}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{what}: {problem}");
    problem
}

#[tokio::test]
async fn a_bad_event_is_refused_by_what_is_wrong_with_it_and_not_stored() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    let json = "application/json";
    let cases: Vec<(&str, &str, Vec<u8>, u16)> = vec![
        ("/receive_event/a", json, b"{".to_vec(), 400),
        ("/receive_event/a", json, b"".to_vec(), 400),
        ("/receive_event/a", json, b"name=cat".to_vec(), 400),
        ("/receive_event/a", json, b"{\"a\":\"\xff\"}".to_vec(), 400),
        ("/receive_event/a", json, b"[]".to_vec(), 422),
        ("/receive_event/a", json, b"\"x\"".to_vec(), 422),
        ("/receive_event/a", json, b"{\"transaction_id\":5}".to_vec(), 422),
        ("/receive_event/a", json, b"{\"redirect_url\":\"ftp://x\"}".to_vec(), 422),
        ("/receive_event/a%20b", json, b"{}".to_vec(), 422),
        ("/receive_event/a..b", json, b"{}".to_vec(), 422),
        ("/receive_event/a.*", json, b"{}".to_vec(), 422),
        ("/receive_event/a%2Fb", json, b"{}".to_vec(), 422),
        ("/receive_event/$SYS", json, b"{}".to_vec(), 422),
        ("/receive_event/mer.x", json, b"{}".to_vec(), 422),
        ("/receive_event/%FF", json, b"{}".to_vec(), 422),
        ("/receive_event/a", json, large.into_bytes(), 413),
        ("/receive_event/a", "text/plain", b"{}".to_vec(), 415),
        ("/receive_event/a", "application/x-www-form-urlencoded", b"{}".to_vec(), 415),
        ("/receive_event/a/b", json, b"{}".to_vec(), 404),
        ("/receive_event/", json, b"{}".to_vec(), 404),
        ("/nowhere", json, b"{}".to_vec(), 404),
    ];
    for (path, content_type, body, status) in cases {
        let what = format!("{path} {content_type} {:?}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        let response = api.send(Method::POST, path, &[("content-type", content_type)], body).await.unwrap();
        let problem = problem(response, status, &what).await;
        assert_eq!(problem["errors"].is_array(), status == 422, "{what}: {problem}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let response = api.send(method.clone(), "/receive_event/a", &[], "{}").await.unwrap();
        assert_eq!(response.headers()["allow"], "POST");
        problem(response, 405, method.as_str()).await;
    }
    let long_key = "k".repeat(257);
    let response = api.send(Method::POST, "/receive_event/a", &[("idempotency-key", &long_key)], "{}").await.unwrap();
    assert_eq!(problem(response, 422, "a long key").await["errors"][0]["header"], "idempotency-key");
    let cloud_event = r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "a"}"#;
    let headers = [("content-type", "application/cloudevents+json"), ("idempotency-key", "k")];
    let response = api.send(Method::POST, "/v1/events", &headers, cloud_event).await.unwrap();
    assert_eq!(problem(response, 422, "a CloudEvent has a key").await["errors"][0]["header"], "idempotency-key");
    assert_eq!(api.post_event("a", &json!({})).await.sequence, 1, "nothing of all that was stored");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let frame = r#"{"x":""}"#.len();
    let data = json!({"x": "x".repeat(1024 * 1024 - frame)});
    assert_eq!(mer.api().post_event("a", &data).await.sequence, 1);
}

#[tokio::test]
async fn a_bad_registration_names_every_fault_and_stores_nothing() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let good = json!({"event": "good", "urls_to_register": [{"url": "http://127.0.0.1:9/"}]});
    let bad = json!({"event": "a b", "urls_to_register": [
        {"url": "not a url", "count": "one"},
        {"url": "http://127.0.0.1:9/", "datetime_start": "tomorrow", "datetime_end": 5, "expire_after": -1, "unknown": 1},
    ]});
    let response = api.post("/register_for_events/", &json!({"events_to_register": [good, bad]})).await;
    let problem_of_many = problem(response, 422, "many faults").await;
    let pointers: Vec<&str> =
        problem_of_many["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    let at = |rest: &str| format!("/events_to_register/1/{rest}");
    for pointer in [
        at("event"),
        at("urls_to_register/0/url"),
        at("urls_to_register/0/count"),
        at("urls_to_register/1/datetime_start"),
        at("urls_to_register/1/datetime_end"),
        at("urls_to_register/1/expire_after"),
        at("urls_to_register/1/unknown"),
    ] {
        assert!(pointers.contains(&pointer.as_str()), "{pointer} is not among {pointers:?}");
    }
    for (body, status) in [("{", 400), ("", 400), ("[]", 422), ("{}", 422), ("{\"events_to_register\":5}", 422)] {
        let response = api.send(Method::POST, "/register_for_events", &[], body).await.unwrap();
        problem(response, status, body).await;
        let response = api.send(Method::POST, "/unregister_for_events", &[], body).await.unwrap();
        problem(response, status, body).await;
    }
    let response =
        api.send(Method::POST, "/register_for_events/", &[("content-type", "text/plain")], "{}").await.unwrap();
    problem(response, 415, "text/plain").await;
    let response = api.send(Method::GET, "/register_for_events/", &[], "").await.unwrap();
    problem(response, 405, "GET").await;

    let context = async_nats::jetstream::new(nats.client().await);
    let status = context.get_key_value("SUBSCRIPTIONS").await.unwrap().status().await.unwrap();
    assert_eq!(status.values(), 0, "nothing of all that was stored");
}
