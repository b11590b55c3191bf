//! What Prometheus is told, after traffic that is known.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Api, Mer, Metrics, Nats, Target, eventually, eventually_async};

use crate::{LONG, MER, SOON, mer_on};

const SHOP: &[(&str, &str)] = &[("group", "shop")];

/// Subscribes a target to the type `a`, in the group `shop`, with these settings. Answers with the id.
async fn subscribe(api: &Api, target: &Target, delivery: Value) -> String {
    let body = json!({"url": target.url("/"), "group": "shop", "events": [{"type": "a"}], "delivery": delivery});
    let made = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(made.status(), 201);
    made.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// A name, a label beside the group, and the sum of all samples that have them.
type Row<'a> = (&'a str, Option<(&'a str, &'a str)>, f64);

/// Waits until these are so in the group `shop`, one after the other.
async fn becomes(api: &Api, expected: &[Row<'_>]) {
    let matches = |metrics: &Metrics, (name, label, value): &Row<'_>| {
        let labels: Vec<(&str, &str)> = SHOP.iter().copied().chain(*label).collect();
        metrics.sum(name, &labels) == Some(*value)
    };
    for row in expected {
        eventually_async(&format!("{row:?}"), SOON, async || matches(&api.metrics().await, row)).await;
    }
}

async fn act(api: &Api, id: &str, action: &str, body: &Value) {
    let path = format!("/v1/subscriptions/{id}/{action}");
    let response = api.send(Method::POST, &path, &[], body.to_string()).await.unwrap();
    assert!(response.status().is_success(), "{action}: {}", response.status());
}

#[tokio::test]
async fn what_is_accepted_rejected_and_delivered_is_counted() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    subscribe(&api, &target, json!({})).await;
    for _ in 0..4 {
        api.post_event("a", &json!({})).await;
    }
    let batch = json!([{"specversion": "1.0", "id": "1", "source": "/s", "type": "a"}, {"specversion": "1.0", "id": "2", "source": "/s", "type": "a"}]);
    let batched = [("content-type", "application/cloudevents-batch+json")];
    for _ in 0..2 {
        let response = api.send(Method::POST, "/v1/events", &batched, batch.to_string()).await.unwrap();
        assert_eq!(response.status(), 201);
    }
    for (path, headers, body, status) in [
        ("/receive_event/a", &[][..], "{", 400),
        ("/v1/events/a", &[], "", 400),
        ("/receive_event/a..b", &[], "{}", 422),
        ("/receive_event/a", &[("content-type", "text/plain")], "{}", 415),
        ("/v1/events/a", &[("expected-last-sequence", "1")], "{}", 412),
        ("/v1/subscriptions", &[], "{}", 405),
        ("/register_for_events/", &[], "{}", 422),
    ] {
        let response = api.send(Method::POST, path, headers, body).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
    becomes(
        &api,
        &[
            ("mer_events_delivered_total", None, 6.0),
            ("mer_delivery_attempts_total", Some(("outcome", "delivered")), 6.0),
            ("mer_delivery_attempts_total", None, 6.0),
            ("mer_delivery_duration_seconds_count", None, 6.0),
            ("mer_end_to_end_latency_seconds_count", None, 6.0),
            ("mer_end_to_end_latency_seconds_bucket", Some(("le", "+Inf")), 6.0),
            ("mer_lanes", Some(("state", "active")), 1.0),
            ("mer_lanes", None, 1.0),
            ("mer_lag_events", None, 0.0),
            ("mer_lag_seconds", None, 0.0),
            ("mer_replays_in_progress", None, 0.0),
            ("mer_dead_letters_total", None, 0.0),
        ],
    )
    .await;
    let metrics = api.metrics().await;
    for (name, labels, value) in [
        ("mer_events_accepted_total", &[][..], 6.0),
        ("mer_events_duplicate_total", &[], 2.0),
        ("mer_publish_duration_seconds_count", &[], 6.0),
        ("mer_clock_steps_back_total", &[], 0.0),
        ("mer_posts_rejected_total", &[], 5.0),
        ("mer_posts_rejected_total", &[("reason", "malformed")], 2.0),
        ("mer_posts_rejected_total", &[("reason", "unacceptable")], 1.0),
        ("mer_posts_rejected_total", &[("reason", "unsupported_media_type")], 1.0),
        ("mer_posts_rejected_total", &[("reason", "wrong_last")], 1.0),
        ("mer_registration_calls_total", &[("outcome", "accepted")], 1.0),
        ("mer_registration_calls_total", &[("outcome", "rejected")], 1.0),
        ("mer_events_delivered_total", &[("group", "(none)")], 0.0),
        ("mer_lease_shards", &[], 64.0),
        ("mer_lease_valid", &[], 1.0),
        ("mer_lane_deaths_total", &[], 0.0),
        ("mer_nats_connected", &[], 1.0),
        ("mer_nats_connections_total", &[], 1.0),
        ("mer_build_info", &[], 1.0),
    ] {
        assert_eq!(metrics.sum(name, labels), Some(value), "{name} {labels:?}");
    }
    assert_eq!(metrics.labels(), ["group", "kind", "le", "outcome", "reason", "state", "version"], "no URL, no id");
}

#[tokio::test]
async fn lag_grows_while_a_target_takes_nothing_and_ends_when_it_does() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    subscribe(&api, &target, json!({})).await;
    target.answer(Answer::Status(500));
    api.post_event("a", &json!({})).await;
    becomes(&api, &[("mer_lanes", Some(("state", "held")), 1.0), ("mer_lag_events", None, 1.0)]).await;
    let failed = async || api.metrics().await.sum("mer_delivery_attempts_total", &[("outcome", "status_5xx")]);
    eventually_async("it is tried again", SOON, async || failed().await >= Some(2.0)).await;
    // The lane stands still: it does not hear of these itself.
    for _ in 0..20 {
        api.post_event("a", &json!({})).await;
    }
    becomes(&api, &[("mer_lag_events", None, 21.0)]).await;
    // So many are not kept for it: the log has them.
    for n in 0..2 {
        let event = |i| json!({"specversion": "1.0", "id": format!("{n}-{i}"), "source": "/s", "type": "a"});
        let batch: Vec<Value> = (0..800).map(event).collect();
        let batched = [("content-type", "application/cloudevents-batch+json")];
        let response = api.send(Method::POST, "/v1/events", &batched, json!(batch).to_string()).await.unwrap();
        assert_eq!(response.status(), 201);
    }
    let seconds = async || api.metrics().await.sum("mer_live_lag_seconds", SHOP).unwrap();
    let earlier = seconds().await;
    becomes(&api, &[("mer_lag_events", None, 1621.0)]).await;
    eventually_async("the oldest grows older", SOON, async || seconds().await >= earlier + 1.0).await;
    assert_eq!(api.metrics().await.sum("mer_lag_events", &[("group", "(none)")]), Some(0.0));

    target.answer(Answer::Status(200));
    eventually("all arrive", LONG, || target.taken_count() == 1621).await;
    becomes(
        &api,
        &[
            ("mer_lag_events", None, 0.0),
            ("mer_lag_seconds", None, 0.0),
            ("mer_lanes", Some(("state", "held")), 0.0),
            ("mer_lanes", Some(("state", "active")), 1.0),
            ("mer_events_delivered_total", None, 1621.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_becomes_of_lanes_and_attempts_is_told_apart() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (mut silent, gone, dying) = (Target::start().await, Target::start().await, Target::start().await);
    silent.refuse().await;
    gone.answer(Answer::Status(410));
    dying.answer(Answer::Status(404));
    let silent_id = subscribe(&api, &silent, json!({})).await;
    subscribe(&api, &gone, json!({})).await;
    subscribe(&api, &dying, json!({"max_attempts": 2, "on_exhausted": "dead_letter"})).await;
    api.post_event("a", &json!({})).await;
    let (state, outcome) = (|name| Some(("state", name)), |name| Some(("outcome", name)));
    becomes(
        &api,
        &[
            ("mer_dead_letters_total", None, 1.0),
            ("mer_lanes", state("gone"), 1.0),
            ("mer_lanes", state("held"), 1.0),
            ("mer_lanes", state("active"), 1.0),
            ("mer_delivery_attempts_total", outcome("gone"), 1.0),
            ("mer_delivery_attempts_total", outcome("status_4xx"), 2.0),
            ("mer_events_delivered_total", None, 0.0),
        ],
    )
    .await;
    let unanswered = async || api.metrics().await.sum("mer_delivery_attempts_total", &[("outcome", "no_answer")]);
    eventually_async("nobody answered", SOON, async || unanswered().await >= Some(1.0)).await;

    // What waits because it is to wait is no lag.
    act(&api, &silent_id, "pause", &json!({})).await;
    becomes(&api, &[("mer_lanes", state("paused"), 1.0), ("mer_lag_events", None, 0.0)]).await;
    let path = format!("/v1/subscriptions/{silent_id}");
    assert_eq!(api.send(Method::PATCH, &path, &[], r#"{"group": "other"}"#).await.unwrap().status(), 200);
    becomes(&api, &[("mer_lanes", state("paused"), 0.0), ("mer_lanes", None, 2.0)]).await;
    let others = async || api.metrics().await.sum("mer_lanes", &[("group", "other")]);
    assert_eq!(others().await, Some(1.0));
    assert_eq!(api.send(Method::DELETE, &path, &[], "").await.unwrap().status(), 204);
    eventually_async("a lane that is gone is not counted", SOON, async || others().await == Some(0.0)).await;
}

#[tokio::test]
async fn a_replay_is_seen_and_is_no_older_than_it_was_asked_for() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let id = subscribe(&api, &target, json!({})).await;
    for _ in 0..3 {
        api.post_event("a", &json!({})).await;
    }
    eventually("they arrive", SOON, || target.taken_count() == 3).await;
    // So long ago that it would be seen.
    let old = std::time::Instant::now();
    let aged = std::time::Duration::from_secs(3);
    eventually("they grow older", SOON, || old.elapsed() >= aged).await;
    target.answer(Answer::Status(500));
    let asked_at = std::time::Instant::now();
    act(&api, &id, "replay", &json!({"from": "20200101000000.0"})).await;
    let held = [
        ("mer_replays_in_progress", None, 1.0),
        ("mer_lanes", Some(("state", "held")), 1.0),
        ("mer_live_lag_seconds", None, 0.0),
    ];
    becomes(&api, &held).await;
    let waiting = api.metrics().await.sum("mer_lag_seconds", SHOP).unwrap();
    assert!(waiting > 0.0 && waiting <= asked_at.elapsed().as_secs_f64() + 0.1, "{waiting}");
    target.answer(Answer::Status(200));
    let ended = [
        ("mer_replays_in_progress", None, 0.0),
        ("mer_lag_seconds", None, 0.0),
        ("mer_events_delivered_total", None, 6.0),
        ("mer_end_to_end_latency_seconds_count", None, 3.0),
    ];
    becomes(&api, &ended).await;
}

#[tokio::test]
async fn every_process_tells_its_own_part_whatever_its_roles() {
    let mut nats = Nats::start();
    let on = |roles: &str| Mer::new(MER).set("MER_NATS_URL", nats.url()).roles(roles);
    let (front, hello) = (on("receiver,registrar").start().await, on("hello").start().await);
    let dispatchers = [on("dispatcher").start().await, on("dispatcher").start().await];
    let (api, target) = (front.api(), Target::start().await);
    subscribe(&api, &target, json!({})).await;
    api.post_event("a", &json!({})).await;
    let both = async |name: &str, labels: &[(&str, &str)]| {
        let mut values = Vec::new();
        for dispatcher in &dispatchers {
            values.extend(dispatcher.api().metrics().await.sum(name, labels));
        }
        (values.len(), values.iter().sum::<f64>())
    };
    eventually_async("it is delivered by one of them", SOON, async || {
        both("mer_events_delivered_total", &[]).await == (2, 1.0)
    })
    .await;
    eventually_async("they share the shards", SOON, async || both("mer_lease_shards", &[]).await == (2, 64.0)).await;
    assert_eq!(both("mer_events_accepted_total", &[]).await.0, 0);
    let at_front = api.metrics().await;
    assert_eq!((at_front.sum("mer_events_accepted_total", &[]), at_front.sum("mer_lanes", &[])), (Some(1.0), None));
    let nothing_else = hello.api().metrics().await;
    assert_eq!(nothing_else.sum("mer_build_info", &[]), Some(1.0));
    assert_eq!(nothing_else.sum("mer_nats_connected", &[]), Some(1.0));

    nats.kill();
    eventually_async("it is seen", SOON, async || both("mer_nats_connected", &[]).await == (2, 0.0)).await;
    eventually_async("so that its lease ends", SOON, async || both("mer_lease_valid", &[]).await == (2, 0.0)).await;
    nats.restart();
    eventually_async("it is back", SOON, async || both("mer_nats_connected", &[]).await == (2, 2.0)).await;
    let (of, connections) = both("mer_nats_connections_total", &[]).await;
    assert!(of == 2 && connections >= 4.0, "{connections}");
}

#[tokio::test]
async fn whoever_accepts_open_metrics_gets_that_and_everybody_else_plain_text() {
    let mer = Mer::new(MER).roles("hello").start().await;
    for (accept, content_type, counter, end) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "mer_requests_turned_away_total", false),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", "mer_requests_turned_away_total", false),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "mer_requests_turned_away",
            true,
        ),
    ] {
        let response = mer.api().send(Method::GET, "/metrics", &[("accept", accept)], "").await.unwrap();
        assert_eq!(response.headers()["content-type"], content_type, "{accept}");
        let text = response.text().await.unwrap();
        assert!(text.contains(&format!("# TYPE {counter} counter\n")), "{accept}: {text}");
        assert_eq!(text.ends_with("# EOF\n"), end, "{accept}");
    }
}
