//! Events that are odd and legal, and those that are nearly legal: each is stored as what it is, or refused.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::{Api, Nats, Target, eventually};

use crate::{SOON, mer_on};

/// What an event in binary mode has to have, but for its id.
const BINARY: [(&str, &str); 3] = [("ce-specversion", "1.0"), ("ce-source", "/s"), ("ce-type", "t")];

/// Posts an event in binary mode, with more headers.
async fn post_binary(api: &Api, more: &[(&str, &str)], body: &'static str) -> Response {
    api.send(Method::POST, "/v1/events", &[&BINARY[..], more].concat(), body).await.unwrap()
}

#[tokio::test]
async fn attributes_that_do_not_decode_to_utf_8_are_refused_so_that_two_events_stay_two() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for odd in [[("ce-id", "caf%E9")], [("ce-id", "caf%E8")]] {
        let response = post_binary(&api, &odd, "{}").await;
        assert_eq!(response.status(), 400);
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["errors"][0]["header"], "ce-id", "{problem}");
    }
    let response = post_binary(&api, &[("ce-id", "1"), ("ce-transactionid", "caf%E9")], "{}").await;
    assert_eq!(response.status(), 400);
    assert_eq!(api.send(Method::GET, "/v1/events?transaction_id=caf%E9", &[], "").await.unwrap().status(), 422);

    // What another client stores is not refused, and stays two transactions as well.
    for odd in ["caf%E9", "caf%E8"] {
        let headers = format!("NATS/1.0\r\nce-specversion: 1.0\r\nce-transactionid: {odd}\r\n\r\n");
        nats.store_raw("events.t", headers.as_bytes(), b"{}");
    }
    let events = api.get("/v1/events").await;
    let transactions: Vec<&Value> =
        events["events"].as_array().unwrap().iter().map(|event| &event["transaction_id"]).collect();
    assert_eq!(transactions, [&json!("caf%E9"), &json!("caf%E8")], "{events}");
}

#[tokio::test]
async fn odd_and_legal_json_is_stored_with_what_it_says() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let half_an_emoji = r#"{"\ud83d":1,"transaction_id":"T"}"#;
    for path in ["/v1/events/t", "/receive_event/t"] {
        let response = api.send(Method::POST, path, &[], half_an_emoji).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    }
    // What is read back is no text that `serde_json` would make a value of.
    let page = api.send(Method::GET, "/v1/events?transaction_id=T", &[], "").await.unwrap().text().await.unwrap();
    assert_eq!(page.matches(half_an_emoji).count(), 2, "{page}");

    for (rest, status) in [
        (r#""id":"1","data":1,"data_base64":null"#, 201),
        (r#""id":"2","time":"0000-01-01T00:00:00Z""#, 400),
        (r#""id":"3","time":"9999-12-31T23:59:59-01:00""#, 400),
        (r#""id":"4","time":"9999-12-31T23:59:59Z""#, 201),
    ] {
        let event = format!(r#"{{"specversion":"1.0","source":"/s","type":"t",{rest}}}"#);
        let headers = [("content-type", "application/cloudevents+json")];
        let response = api.send(Method::POST, "/v1/events", &headers, event).await.unwrap();
        assert_eq!(response.status(), status, "{rest}");
    }
}

#[tokio::test]
async fn a_media_type_that_nobody_gave_is_delivered_by_nobody() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (single, batched) = (Target::start().await, Target::start().await);
    api.register(&single.url("/"), &["t"], &json!({})).await;
    let body = json!({"url": batched.url("/"), "events": [{"type": "t"}], "delivery": {"mode": "batched"}});
    assert_eq!(api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap().status(), 201);

    // `Api` says a content type wherever a test does not.
    let mut request = reqwest::Client::new().post(format!("{}/v1/events", mer.url())).header("ce-id", "1");
    for (name, value) in BINARY {
        request = request.header(name, value);
    }
    assert_eq!(request.body("{}").send().await.unwrap().status(), 201);
    for rest in [r#""id":"2","data_base64":"e30=""#, r#""id":"3""#, r#""id":"4","data":{}"#] {
        let event = format!(r#"{{"specversion":"1.0","source":"/s","type":"t",{rest}}}"#);
        let headers = [("content-type", "application/cloudevents+json")];
        assert_eq!(api.send(Method::POST, "/v1/events", &headers, event).await.unwrap().status(), 201, "{rest}");
    }
    let plain = nats.client().await;
    plain.publish("events.t", "{}".into()).await.unwrap();
    plain.flush().await.unwrap();

    eventually("all arrive", SOON, || single.taken_count() == 5 && batched.taken().len() == 5).await;
    let types: Vec<Option<String>> =
        single.received().iter().map(|request| request.headers.get("content-type").cloned()).collect();
    let is_json = Some("application/json".to_owned());
    assert_eq!(types, [None, None, None, is_json.clone(), is_json]);
    let events: Vec<Value> = batched.bodies().iter().flat_map(|batch| batch.as_array().unwrap().clone()).collect();
    for (event, (has_type, data, base64)) in events.iter().zip([
        (false, None, Some("e30=")),
        (false, None, Some("e30=")),
        (false, None, None),
        (true, Some(json!({})), None),
        (true, Some(json!({})), None),
    ]) {
        assert_eq!(event.get("datacontenttype").is_some(), has_type, "{event}");
        assert_eq!((event.get("data").cloned(), event["data_base64"].as_str()), (data, base64), "{event}");
    }
    assert_eq!(api.get("/v1/events/3").await.get("data"), None, "there is none");
}

#[tokio::test]
async fn a_trace_context_travels_whole() {
    const KNOWN: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["t"], &json!({})).await;
    let (parent, later) = (format!("00-{KNOWN}"), format!("cc-{KNOWN}-what-the-future-will-be-like"));
    let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "traceparent": parent, "tracestate": "x=1"});
    for (path, content_type, headers, body) in [
        (
            "/v1/events/t",
            "application/json",
            vec![("traceparent", &*parent), ("tracestate", "a=1,b=2")],
            "{}".to_owned(),
        ),
        (
            "/receive_event/t",
            "application/json",
            vec![("traceparent", &*later), ("tracestate", "a=1")],
            "{}".to_owned(),
        ),
        (
            "/v1/events/t",
            "application/json",
            vec![("traceparent", &*parent), ("traceparent", &*later)],
            "{}".to_owned(),
        ),
        ("/v1/events", "application/cloudevents+json", vec![("traceparent", &*later)], event.to_string()),
    ] {
        let headers = [vec![("content-type", content_type)], headers].concat();
        let response = api.send(Method::POST, path, &headers, body).await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    }
    eventually("all arrive", SOON, || target.taken_count() == 4).await;
    let contexts: Vec<(Option<String>, Option<String>)> = target
        .received()
        .iter()
        .map(|request| {
            let header = |name: &str| request.headers.get(name).cloned();
            (header("traceparent"), header("tracestate"))
        })
        .collect();
    let some = |parent: &str, state: &str| (Some(parent.to_owned()), Some(state.to_owned()));
    assert_eq!(contexts, [some(&parent, "a=1,b=2"), some(&later, "a=1"), (None, None), some(&parent, "x=1")]);
}
