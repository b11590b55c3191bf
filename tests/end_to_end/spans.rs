//! What a collector of traces is told, and what it is not.

use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Collector, Mer, Nats, Target, Told, eventually};

use crate::{LONG, MER, SOON};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// One with these roles that tells the collector at once, and is not started yet.
fn mer_with(nats: &Nats, roles: &str, collector: &Collector) -> Mer {
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles(roles);
    mer.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()).set("OTEL_BSP_SCHEDULE_DELAY", "20")
}

const ALL: &str = "receiver,registrar,dispatcher";

/// Waits for so many spans whose name begins like this.
async fn spans_of(collector: &Collector, operation: &str, count: usize) -> Vec<Told> {
    let found = || collector.spans().into_iter().filter(|span| span.name.starts_with(operation)).collect::<Vec<_>>();
    eventually(&format!("{count} spans of {operation}"), SOON, || found().len() >= count).await;
    assert_eq!(found().len(), count, "{operation}: {:?}", found());
    found()
}

/// Posts an event with headers; it must be accepted.
async fn post(mer: &Mer, path: &str, headers: &[(&str, &str)], body: &Value) {
    let response = mer.api().send(Method::POST, path, headers, body.to_string()).await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.status());
}

#[tokio::test]
async fn one_trace_leads_from_the_sender_through_the_log_to_every_attempt() {
    let (nats, collector) = (Nats::start(), Collector::start().await);
    let front = mer_with(&nats, "receiver,registrar", &collector).start().await;
    let _dispatcher = mer_with(&nats, "dispatcher", &collector).start().await;
    let (good, bad) = (Target::start().await, Target::start().await);
    bad.answer(Answer::Status(503));
    for target in [&good, &bad] {
        front.api().register(&target.url("/in?q=1"), &["order.paid"], &json!({})).await;
    }
    post(&front, "/receive_event/order.paid", &[("traceparent", TRACEPARENT)], &json!({"n": 1})).await;
    eventually("the bad one is tried twice", SOON, || bad.received().len() >= 2).await;
    bad.answer(Answer::Status(200));
    eventually("both have it", LONG, || good.taken_count() == 1 && bad.taken_count() == 1).await;

    let [publish] = &spans_of(&collector, "publish", 1).await[..] else { panic!("one span") };
    assert_eq!((publish.trace_id.as_str(), publish.parent_id.as_str()), (TRACE, SENDER));
    assert_eq!(publish.name, "publish events.order.paid");
    assert_eq!(publish.kind.as_str_name(), "SPAN_KIND_PRODUCER");
    let event_id = good.received()[0].headers["ce-id"].clone();
    for (name, value) in [
        ("messaging.system", "nats"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "events.order.paid"),
        ("messaging.message.id", event_id.as_str()),
        ("cloudevents.event_id", &event_id),
        ("cloudevents.event_type", "order.paid"),
        ("mer.sequence", "1"),
    ] {
        assert_eq!(publish.attributes[name], value, "{name}");
    }
    assert_eq!(publish.resource["service.name"], "mer");

    let requests: Vec<_> = good.received().into_iter().chain(bad.received()).collect();
    let deliveries = spans_of(&collector, "deliver", requests.len()).await;
    for request in &requests {
        let traceparent = &request.headers["traceparent"];
        let told: Vec<_> = deliveries.iter().filter(|span| traceparent.contains(&span.span_id)).collect();
        let [span] = told[..] else { panic!("one span for {traceparent}: {told:?}") };
        assert_eq!(*traceparent, format!("00-{TRACE}-{}-01", span.span_id));
        assert_eq!((&span.trace_id, &span.parent_id), (&publish.trace_id, &publish.span_id));
        assert_eq!(span.kind.as_str_name(), "SPAN_KIND_CONSUMER");
        assert_eq!(span.has_failed, !request.was_taken);
        let status = if request.was_taken { "200" } else { "503" };
        assert_eq!(span.attributes["http.response.status_code"], status);
        assert_eq!(span.attributes.get("error.type").map(String::as_str), (!request.was_taken).then_some(status));
        assert_eq!(span.attributes["messaging.message.id"], event_id);
        assert_eq!(span.attributes["server.address"], "127.0.0.1");
    }
    let port = good.url("");
    let port = port.rsplit(':').next().unwrap();
    let mut attempts: Vec<_> = deliveries.iter().filter(|span| span.attributes["server.port"] != port).collect();
    attempts.sort_by_key(|span| span.attributes["mer.attempt"].parse::<u32>().unwrap());
    let numbers: Vec<_> = attempts.iter().map(|span| span.attributes["mer.attempt"].clone()).collect();
    assert_eq!(numbers, (1..=attempts.len()).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_without_a_trace_begins_one_and_one_that_is_not_sampled_is_not_told() {
    let (nats, collector) = (Nats::start(), Collector::start().await);
    let mer = mer_with(&nats, ALL, &collector).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &[">"], &json!({})).await;
    let not_sampled = format!("{}0", &TRACEPARENT[..TRACEPARENT.len() - 1]);
    post(&mer, "/v1/events/a", &[("traceparent", &not_sampled)], &json!(1)).await;
    post(&mer, "/v1/events/a", &[("traceparent", "00-0-0-0")], &json!(2)).await;
    post(&mer, "/receive_event/a", &[], &json!({})).await;
    let plain = nats.client().await;
    plain.publish("events.plain", "{}".into()).await.unwrap();
    plain.flush().await.unwrap();
    eventually("all arrive", SOON, || target.taken_count() == 4).await;
    let (publishes, deliveries) = (spans_of(&collector, "publish", 2).await, spans_of(&collector, "deliver", 3).await);
    let traceparents: Vec<_> = target.received().iter().map(|request| request.headers["traceparent"].clone()).collect();
    assert!(traceparents[0].starts_with(&format!("00-{TRACE}-")) && traceparents[0].ends_with("-00"));
    assert!(!traceparents[0].contains(SENDER), "the attempt has an id of its own");
    assert!(publishes.iter().all(|span| span.parent_id.is_empty() && span.trace_id != TRACE));
    for (publish, delivery) in publishes.iter().zip(&deliveries) {
        assert_eq!((&delivery.trace_id, &delivery.parent_id), (&publish.trace_id, &publish.span_id));
    }
    assert!(deliveries[2].parent_id.is_empty(), "nobody told where it came from");
    assert!(publishes.iter().all(|publish| publish.trace_id != deliveries[2].trace_id));
    for (traceparent, delivery) in traceparents[1..].iter().zip(&deliveries) {
        assert_eq!(*traceparent, format!("00-{}-{}-01", delivery.trace_id, delivery.span_id));
    }
}

#[tokio::test]
async fn a_batch_links_to_the_traces_of_all_its_events() {
    let (nats, collector) = (Nats::start(), Collector::start().await);
    let mer = mer_with(&nats, ALL, &collector).start().await;
    let target = Target::start().await;
    let body = json!({"url": target.url("/"), "events": [{"type": ">"}], "delivery": {"mode": "batched", "batch_max_wait_ms": 1000, "batch_max_events": 200}});
    assert_eq!(mer.api().send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap().status(), 201);
    // Each of its own trace: one names it itself, the others have that of the request.
    let mut batch: Vec<Value> = (0..199)
        .map(|n| json!({"specversion": "1.0", "id": n.to_string(), "source": "/s", "type": format!("a.{n}")}))
        .collect();
    batch.push(json!({"specversion": "1.0", "id": "last", "source": "/s", "type": "b", "traceparent": format!("00-{}-{SENDER}-01", TRACE.replace('4', "5"))}));
    let headers = [("content-type", "application/cloudevents-batch+json"), ("traceparent", TRACEPARENT)];
    post(&mer, "/v1/events", &headers, &json!(batch)).await;
    eventually("it arrives", SOON, || target.taken().len() == 200).await;
    let publishes = spans_of(&collector, "publish", 200).await;
    let deliveries = spans_of(&collector, "deliver", target.received().len()).await;
    for (request, delivery) in target.received().iter().zip(&deliveries) {
        assert_eq!(request.headers["traceparent"], format!("00-{}-{}-01", delivery.trace_id, delivery.span_id));
        assert_eq!(delivery.attributes["messaging.batch.message_count"], request.sequences.len().to_string());
        assert!(delivery.parent_id.is_empty() && delivery.trace_id != TRACE);
    }
    let mut linked: Vec<_> = deliveries.into_iter().flat_map(|delivery| delivery.links).collect();
    let mut begun: Vec<_> = publishes.into_iter().map(|publish| (publish.trace_id, publish.span_id)).collect();
    linked.sort();
    begun.sort();
    assert_eq!(linked, begun);
    // What a batch says of an event is where the event comes from, not where the batch goes.
    let bodies = target.bodies();
    let first = bodies[0][0]["traceparent"].as_str().unwrap();
    assert!(begun.iter().any(|(trace, span)| first == format!("00-{trace}-{span}-01")), "{first}");
}

#[tokio::test]
async fn off_nobody_is_told_and_no_trace_is_made_up() {
    let (nats, collector) = (Nats::start(), Collector::start().await);
    let off: [&[(&str, &str)]; 4] = [
        &[],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", ""), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "here"), ("OTEL_SDK_DISABLED", "true")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "here"), ("OTEL_TRACES_EXPORTER", "none")],
    ];
    for settings in off {
        let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url());
        for (name, value) in settings {
            mer = mer.set(name, value.replace("here", &collector.url()));
        }
        let mer = mer.start().await;
        let target = Target::start().await;
        mer.api().register(&target.url("/"), &["a"], &json!({})).await;
        post(&mer, "/receive_event/a", &[("traceparent", TRACEPARENT)], &json!({})).await;
        post(&mer, "/receive_event/a", &[], &json!({})).await;
        eventually("both arrive", SOON, || target.taken_count() == 2).await;
        let [first, second] = &target.received()[..] else { panic!("two requests") };
        assert_eq!(first.headers["traceparent"], TRACEPARENT, "{settings:?}");
        assert!(!second.headers.contains_key("traceparent"), "{settings:?}");
        mer.api().unregister(&target.url("/"), "a").await;
    }
    assert!(collector.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_or_says_nothing_harms_nothing() {
    let (nats, mut collector) = (Nats::start(), Collector::start().await);
    collector.refuse().await;
    // More spans than there is room for.
    let mut mer = mer_with(&nats, ALL, &collector).set("OTEL_BSP_MAX_QUEUE_SIZE", "64").start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    for _ in 0..200 {
        mer.api().post_event("a", &json!({})).await;
    }
    eventually("all arrive", LONG, || target.taken_count() == 200).await;
    eventually("it is logged", SOON, || mer.log().contains("spans.not_exported")).await;

    collector.listen().await;
    eventually("it is told again", SOON, || mer.log().contains("spans.exported_again")).await;
    collector.answer(Some(503));
    for _ in 0..50 {
        mer.api().post_event("a", &json!({})).await;
    }
    eventually("it is asked", SOON, || mer.log().matches("spans.not_exported").count() == 2).await;
    collector.answer(None);
    for _ in 0..50 {
        mer.api().post_event("a", &json!({})).await;
    }
    eventually("all arrive", LONG, || target.taken_count() == 300).await;
    assert!(target.received().iter().all(|request| request.headers.contains_key("traceparent")));

    let began = Instant::now();
    assert!(mer.stop().await, "it ends well");
    assert!(began.elapsed() < Duration::from_secs(12), "it waits for the collector no longer than it may");
    let lines = mer.log().lines().filter(|line| line.contains("spans.not_exported")).count();
    assert!(lines <= 3, "{lines} lines");
}

// Who waits for mer to end takes what it tells meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_told_at_the_end_with_what_the_variables_say() {
    let (nats, collector) = (Nats::start(), Collector::start().await);
    let mut mer = mer_with(&nats, ALL, &collector)
        .set("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url().replace("//", "//user:word@"))
        .set("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k%201")
        .set("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=here")
        .set("OTEL_SERVICE_NAME", "shop-mer")
        .start()
        .await;
    mer.api().post_event("a", &json!({})).await;
    assert!(collector.spans().is_empty());
    assert!(mer.stop().await);
    let [span] = &collector.spans()[..] else { panic!("one span") };
    assert_eq!(span.resource["service.name"], "shop-mer");
    assert_eq!(span.resource["deployment.environment.name"], "here");
    let [request] = &collector.requests()[..] else { panic!("one request") };
    assert_eq!(request.path, "/v1/traces");
    assert_eq!(request.headers["x-key"], "k 1");
    assert_eq!(request.headers["authorization"], "Basic dXNlcjp3b3Jk");

    let mer = mer.set("OTEL_TRACES_SAMPLER", "always_off").set("OTEL_BSP_SCHEDULE_DELAY", "20");
    let mut mer = mer.set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{}/elsewhere", collector.url())).start().await;
    mer.api().post_event("a", &json!({})).await;
    assert!(mer.stop().await);
    assert_eq!(collector.requests().len(), 1, "nothing is sampled");
    let mut mer = mer.set("OTEL_TRACES_SAMPLER", "always_on").start().await;
    mer.api().post_event("a", &json!({})).await;
    assert!(mer.stop().await);
    assert_eq!(collector.requests()[1].path, "/elsewhere");
}

#[tokio::test]
async fn what_is_not_stored_is_a_span_that_failed() {
    let (nats, collector) = (Nats::start(), Collector::start().await);
    let mer = mer_with(&nats, ALL, &collector).start().await;
    let expected = [("expected-last-sequence", "7")];
    let response = mer.api().send(Method::POST, "/v1/events/a", &expected, "{}").await.unwrap();
    assert_eq!(response.status(), 412);
    let [span] = &spans_of(&collector, "publish", 1).await[..] else { panic!("one span") };
    assert!(span.has_failed && span.attributes["error.type"] == "wrong_last");
    // A repetition is told as such; what is in the log names the first one.
    for _ in 0..2 {
        post(&mer, "/receive_event/a", &[("idempotency-key", "k")], &json!({})).await;
    }
    let spans = spans_of(&collector, "publish", 3).await;
    let duplicates: Vec<_> = spans.iter().map(|span| span.attributes.contains_key("mer.duplicate")).collect();
    assert_eq!(duplicates, [false, false, true]);
}

#[test]
fn what_cannot_be_used_ends_mer_and_is_not_repeated() {
    for (name, value, more) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "confidential:4317", None),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://confidential/", None),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc-confidential",
            Some(("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")),
        ),
    ] {
        let mut command = Command::new(MER);
        command.arg("serve").env_clear().env("MER_LISTEN", "127.0.0.1:0").env(name, value).envs(more);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(name) && !said.contains("confidential"), "{said}");
    }
}
