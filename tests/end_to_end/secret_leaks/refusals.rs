//! Every refusal that there is, with a secret in what is refused.

use reqwest::Method;
use serde_json::{Value, json};

use super::{BATCH, CLOUD_EVENT, NDJSON, User};

/// What is to be answered, and to what: a path, headers and a body.
type Case<'a> = (u16, &'a str, Vec<(&'a str, &'a str)>, String);

/// Provokes every refusal that there is.
pub(super) async fn provoke(api: &User<'_>, at: &impl Fn(&str) -> String, reader: &str, stranger: &str) {
    let (reader, stranger) = (format!("Bearer {reader}"), format!("Bearer {stranger}"));
    for (authorization, status) in [(stranger.as_str(), 401), (&reader, 403), ("Basic", 401)] {
        let headers = [("authorization", authorization)];
        let body = json!({"secret": at("data of a post that is not allowed")});
        api.is_answered(status, Method::POST, "/receive_event/a", &headers, body).await;
    }
    let text = |place: &str| json!(at(place)).to_string();
    let large = format!("{{\"x\": \"{}{}\"}}", at("data that is too large"), "x".repeat(1024 * 1024));
    let media = format!("text/{0}; charset={0}", at("a media type that is none"));
    let cloud = format!("application/cloudevents-{}", at("a format of CloudEvents that is none"));
    let key = format!("{}{}", at("an idempotency-key that is too long"), "k".repeat(300));
    let expected = at("expected-last-sequence that is none");
    let event = |field: &str, value: Value| {
        let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "b", "data": {"x": at("data of a CloudEvent")}});
        event[field] = value;
        event.to_string()
    };
    let receive = "/receive_event/a";
    let mut cases: Vec<Case<'_>> = vec![
        (400, receive, vec![], at("a body that is no JSON")),
        (
            400,
            receive,
            vec![],
            format!("{{\"secret\": \"{}\" {}}}", at("a body that is broken"), at("a body that is broken")),
        ),
        (400, receive, vec![], format!("{{\"{}\"", at("a body that ends"))),
        (422, receive, vec![], text("a string in place of an object")),
        (422, receive, vec![], json!([at("a list in place of an object")]).to_string()),
        (422, receive, vec![], json!({"transaction_id": {"x": at("transaction_id that is an object")}}).to_string()),
        (422, receive, vec![], json!({"transaction_id": at("transaction_id that is too long").repeat(10)}).to_string()),
        (422, receive, vec![], json!({"redirect_url": at("redirect_url that is none")}).to_string()),
        (
            422,
            receive,
            vec![],
            json!({"redirect_url": format!("ftp://u:{}@h/?{}", at("redirect_url"), at("redirect_url"))}).to_string(),
        ),
        (422, receive, vec![], json!({"redirect_url": {"x": at("redirect_url that is an object")}}).to_string()),
        (413, receive, vec![], large.clone()),
        (413, "/v1/events/a", vec![], large),
        (415, receive, vec![("content-type", &media)], json!({"x": at("data of another media type")}).to_string()),
        (415, "/v1/events", vec![("content-type", &cloud)], event("x", json!("y"))),
        (415, "/v1/events", vec![], json!({"x": at("data that is no CloudEvent")}).to_string()),
        (422, receive, vec![("idempotency-key", &key)], json!({"x": at("data")}).to_string()),
        (422, "/v1/events/a", vec![("expected-last-sequence", &expected)], json!({"x": at("data")}).to_string()),
        (412, "/v1/events/a", vec![("expected-last-sequence", "1")], json!({"x": at("data")}).to_string()),
        (400, "/v1/events/a", vec![], at("a body that is no JSON")),
        (400, "/v1/events", vec![CLOUD_EVENT], at("a CloudEvent that is no JSON")),
        (400, "/v1/events", vec![CLOUD_EVENT], text("a CloudEvent that is a string")),
        (400, "/v1/events", vec![BATCH], text("a batch that is a string")),
        (400, "/v1/events", vec![BATCH], json!({"x": at("a batch that is an object")}).to_string()),
        (400, "/v1/events", vec![BATCH], json!([at("a batch of a string")]).to_string()),
        (
            400,
            "/v1/events",
            vec![NDJSON],
            format!("{}\n{}", text("a line that is a string"), at("a line that is no JSON")),
        ),
    ];
    for field in [
        "specversion",
        "time",
        "data_base64",
        "source",
        "id",
        "type",
        "subject",
        "transactionid",
        "traceparent",
        "xextension",
    ] {
        let nonsense = json!({"x": at(&format!("{field} that is an object"))});
        cases.push((400, "/v1/events", vec![CLOUD_EVENT], event(field, nonsense)));
    }
    for field in ["specversion", "time", "data_base64"] {
        cases.push((400, "/v1/events", vec![CLOUD_EVENT], event(field, at(&format!("{field} that is none")).into())));
    }
    let too_long = |field: &str| at(&format!("{field} that is too long")).repeat(40);
    for field in ["source", "id", "transactionid", "traceparent", "datacontenttype"] {
        cases.push((400, "/v1/events", vec![CLOUD_EVENT], event(field, too_long(field).into())));
    }
    let time = at("ce-time that is none");
    let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "b")];
    for (name, value) in [("ce-time", time.as_str()), ("ce-specversion", &time), ("ce-Data", &time)] {
        let headers = binary.iter().copied().filter(|(known, _)| *known != name).chain([(name, value)]).collect();
        cases.push((400, "/v1/events", headers, at("a body of any kind")));
    }
    for (status, path, headers, body) in cases {
        let (actual, answer) = api.ask(Method::POST, path, &headers, &body).await;
        assert!(
            actual >= 400 && (actual == status || matches!((actual, status), (422, 400) | (400, 422))),
            "{path} {headers:?} {body}: {actual} {answer}"
        );
    }
    provoke_by_registering(api, at).await;
    for (method, path) in [
        (Method::GET, format!("/v1/events?limit={}", at("limit that is none"))),
        (Method::GET, format!("/v1/events?from={}&to={}", at("from that is none"), at("to that is none"))),
        (Method::GET, format!("/v1/events?after_sequence={}", at("after_sequence that is none"))),
        (Method::GET, format!("/v1/events?x={}", at("a parameter that is none"))),
        (Method::GET, format!("/v1/dead-letters?from={}&after={}", at("from that is none"), at("after that is none"))),
        (Method::GET, format!("/v1/subscriptions?x={}", at("a parameter that is none"))),
        (Method::DELETE, format!("/v1/events?x={}", at("query of a wrong method"))),
        (Method::GET, format!("/nowhere?x={}", at("query of a path that is none"))),
    ] {
        let (status, answer) = api.ask(method, &path, &[], "").await;
        assert!((400..500).contains(&status), "{path}: {status} {answer}");
    }
    let id = at("last-event-id that is none");
    let headers = [("accept", "text/event-stream"), ("last-event-id", id.as_str())];
    api.is_answered(422, Method::GET, "/v1/events", &headers, "").await;
}

async fn provoke_by_registering(api: &User<'_>, at: &impl Fn(&str) -> String) {
    let good = "http://127.0.0.1:9/good";
    for name in [
        "datetime_start",
        "datetime_end",
        "expire_after",
        "count",
        "transaction_id",
        "priority",
        "required_data",
        "listener_data",
        "allow_gap",
        "unknown",
    ] {
        for (kind, value) in [
            ("a text", json!(at(&format!("{name}: a text")).repeat(200))),
            ("an object", json!({"x": at(&format!("{name}: an object")).repeat(200)})),
        ] {
            let mut entry = json!({"url": good});
            entry[name] = value.clone();
            let body = json!({"events_to_register": [{"event": "a", "urls_to_register": [entry]}]});
            let (status, answer) = api.ask(Method::POST, "/register_for_events/", &[], body).await;
            assert_eq!(status, 422, "{name}: {kind}: {answer}");
        }
    }
    for url in [
        json!(at("a URL that is none")),
        json!(format!("ftp://u:{0}@h/?{0}", at("a URL of another scheme"))),
        json!(format!("http://u:{0}@h/?{0}#{0}", at("a URL with a fragment"))),
        json!(format!("http://u:{0}@h:99999/?{0}", at("a URL with a bad port"))),
        json!(format!("http://h/?{}", at("a URL that is too long").repeat(100))),
        json!({"x": at("a URL that is an object")}),
    ] {
        let entry = json!({"url": url, "listener_data": at("listener_data")});
        for (path, verb) in [("/register_for_events/", "register"), ("/unregister_for_events/", "unregister")] {
            let body = json!({format!("events_to_{verb}"): [{"event": "a", format!("urls_to_{verb}"): [entry]}]});
            api.is_answered(422, Method::POST, path, &[], body).await;
        }
        api.is_answered(422, Method::PUT, "/v1/subscriptions", &[], json!({"url": url, "events": [{"type": "a"}]}))
            .await;
    }
    let text = json!(at("a string in place of an object"));
    for (method, path) in [
        (Method::POST, "/register_for_events/"),
        (Method::POST, "/unregister_for_events/"),
        (Method::PUT, "/v1/subscriptions"),
        (Method::POST, "/v1/dead-letters/redrive"),
    ] {
        api.is_answered(422, method.clone(), path, &[], &text).await;
        api.is_answered(400, method, path, &[], at("a body that is no JSON")).await;
    }
    let list = api.is_answered(200, Method::GET, "/v1/subscriptions", &[], "").await;
    let id = list["subscriptions"][0]["id"].as_str().unwrap_or_else(|| panic!("{list}")).to_owned();
    for field in ["group", "delivery", "events", "notify", "unknown"] {
        let value = json!({field: {"x": at(&format!("{field} that is none"))}});
        api.is_answered(422, Method::PATCH, &format!("/v1/subscriptions/{id}"), &[], value).await;
    }
    for field in ["mode", "timeout_ms", "max_attempts", "on_exhausted", "rate_per_second", "concurrency", "unknown"] {
        let value = json!({"delivery": {field: at(&format!("{field} that is none"))}});
        api.is_answered(422, Method::PATCH, &format!("/v1/subscriptions/{id}"), &[], value).await;
    }
    for (action, field) in [
        ("replay", "from"),
        ("replay", "to"),
        ("rotate-secret", "type"),
        ("rotate-secret", "grace_secs"),
        ("replay", "x"),
    ] {
        let value = json!({field: at(&format!("{field} of {action} that is none"))});
        api.is_answered(422, Method::POST, &format!("/v1/subscriptions/{id}/{action}"), &[], value).await;
    }
    for field in ["subscription", "only", "from", "to", "x"] {
        let value = json!({field: {"x": at(&format!("{field} of a redrive that is none"))}});
        api.is_answered(422, Method::POST, "/v1/dead-letters/redrive", &[], value).await;
    }
}
