//! What the `nats` CLI shows, and a plain NATS client as a sender.

use async_nats::jetstream::consumer::{FromConsumer, pull};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tests::{Nats, Target, eventually, eventually_async};

use crate::{SOON, mer_on};

#[tokio::test]
async fn every_object_has_its_name_and_a_description() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let url = target.url("/orders/in?token=confidential");
    api.register(&url, &["order.created", "order.paid"], &json!({})).await;
    api.post_event("order.paid", &json!({})).await;
    eventually("it arrives", SOON, || target.taken_count() == 1).await;

    let context = async_nats::jetstream::new(nats.client().await);
    for name in ["EVENTS", "DEAD_LETTERS", "KV_SUBSCRIPTIONS", "KV_LANES"] {
        let stream = context.get_stream(name).await.unwrap();
        let config = &stream.cached_info().config;
        assert_eq!(config.metadata.get("io.nats.monitor.enabled").map(String::as_str), Some("true"), "{name}");
        assert!(config.description.as_ref().is_some_and(|text| text.len() > 20), "{name}: {:?}", config.description);
    }
    let events = context.get_stream("EVENTS").await.unwrap();
    assert_eq!(events.cached_info().config.subjects, ["events.>"]);
    let names: Vec<String> = events.consumer_names().try_collect().await.unwrap();
    let name = names.into_iter().find(|name| !name.starts_with("tail-")).unwrap();
    assert!(name.starts_with("127-0-0-1-") && name.contains("-orders-in_"), "{name}");
    let info = events.consumer_info(&name).await.unwrap();
    assert_eq!(info.config.durable_name.as_deref(), Some(name.as_str()));
    assert_eq!(info.config.filter_subjects, ["events.order.created", "events.order.paid"]);
    let shown = target.url("/orders/in");
    assert_eq!(info.config.metadata["mer.url"], shown);
    assert_eq!(info.config.description, Some(format!("Pushes to {shown}")));

    assert_eq!(info.config.metadata["io.nats.monitor.unprocessed-critical"], "25000");

    // Keys are subscription ids, which are the consumers' names; values are JSON, and what is, shows no secret.
    for bucket in ["SUBSCRIPTIONS", "LANES"] {
        let value = context.get_key_value(bucket).await.unwrap().get(name.as_str()).await.unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert!(value["entries"]["order.paid"].is_object(), "{value}");
        assert_eq!(value.to_string().contains("confidential"), bucket == "SUBSCRIPTIONS");
    }

    // The stored form is a CloudEvent in the NATS binding's binary mode.
    let stored = events.get_raw_message(1).await.unwrap();
    assert_eq!(stored.subject.as_str(), "events.order.paid");
    for name in ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-transactionid", "content-type"] {
        assert!(stored.headers.get(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn what_a_plain_nats_client_publishes_reaches_a_registered_url() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &[">"], &json!({})).await;
    let client = nats.client().await;
    client.publish("events.plain", r#"{"transaction_id":"T"}"#.into()).await.unwrap();
    client.publish("events.text", "no json".into()).await.unwrap();
    client.publish("events.mer.not_a_legal_type", "{}".into()).await.unwrap();
    client.publish("events.plain", "{}".into()).await.unwrap();
    client.flush().await.unwrap();
    eventually("they arrive", SOON, || target.taken_count() == 3).await;
    let received = target.received();
    assert_eq!(target.taken(), [1, 2, 4]);
    assert_eq!(received[0].headers["ce-id"], "EVENTS-1");
    assert_eq!(received[0].headers["ce-type"], "plain");
    assert_eq!(received[0].headers["ce-transactionid"], "T");
    assert_eq!(received[0].headers["content-type"], "application/json");
    assert_eq!(received[0].body, r#"{"transaction_id":"T"}"#);
    assert_eq!(received[1].headers["content-type"], "application/octet-stream");
    assert_eq!(received[1].body, "no json");
}

#[tokio::test]
async fn what_an_operator_has_set_for_monitoring_stays() {
    const UNPROCESSED: &str = "io.nats.monitor.unprocessed-critical";
    const ENABLED: &str = "io.nats.monitor.enabled";
    let nats = Nats::start();
    let context = async_nats::jetstream::new(nats.client().await);
    // As it was made by somebody else, or by an older mer.
    let made = async_nats::jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["events.>".to_owned()],
        metadata: [(ENABLED.to_owned(), "false".to_owned())].into(),
        ..Default::default()
    };
    context.create_stream(made).await.unwrap();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    api.post_event("a", &json!({})).await;
    eventually("it arrives", SOON, || target.taken() == [1]).await;
    let mut events = context.get_stream("EVENTS").await.unwrap();
    assert_eq!(events.info().await.unwrap().config.metadata[ENABLED], "false");

    let id = domain::TargetUrl::parse(&target.url("/")).unwrap().subscription_id();
    eventually_async("it has a consumer", SOON, async || events.consumer_info(id.as_str()).await.is_ok()).await;
    let mut config = events.consumer_info(id.as_str()).await.unwrap().config;
    assert_eq!(config.metadata[UNPROCESSED], "25000");
    config.metadata.insert(UNPROCESSED.to_owned(), "7".to_owned());
    let config = pull::Config::try_from_consumer_config(config).unwrap();
    events.update_consumer(config).await.unwrap();
    // Other filters make another consumer, and a restart reads it anew.
    api.register(&target.url("/"), &["b"], &json!({})).await;
    mer.stop().await;
    mer.launch();
    mer.until_ready().await;
    api.post_event("b", &json!({})).await;
    eventually("the next arrives", SOON, || target.taken() == [1, 2]).await;
    eventually_async("the consumer has the new filter, and what was set", SOON, async || {
        let info = events.consumer_info(id.as_str()).await;
        info.is_ok_and(|info| info.config.filter_subjects.len() == 2 && info.config.metadata[UNPROCESSED] == "7")
    })
    .await;
}

#[tokio::test]
async fn removing_a_lanes_state_names_the_revision_that_it_replaces() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let url = target.url("/");
    let mut written = nats.client().await.subscribe("$KV.LANES.>").await.unwrap();
    api.register(&url, &["a"], &json!({})).await;
    eventually_async("the lane is written", SOON, async || !nats.value("LANES", &url).await.is_null()).await;
    api.unregister(&url, "a").await;
    eventually_async("the lane is gone", SOON, async || nats.value("LANES", &url).await.is_null()).await;
    let mut removed = 0;
    while removed == 0 {
        let message = tokio::time::timeout(SOON, written.next()).await.expect("it was removed").unwrap();
        let headers = message.headers.unwrap();
        assert!(headers.get("Nats-Expected-Last-Subject-Sequence").is_some(), "{headers:?}");
        removed += usize::from(headers.get("KV-Operation").is_some());
    }
}

#[tokio::test]
async fn what_marks_a_removed_url_expires_in_buckets_that_an_earlier_build_made_too() {
    let nats = Nats::start();
    let context = async_nats::jetstream::new(nats.client().await);
    for bucket in ["SUBSCRIPTIONS", "LANES"] {
        let config = async_nats::jetstream::kv::Config { bucket: bucket.to_owned(), history: 1, ..Default::default() };
        context.create_key_value(config).await.unwrap();
    }
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let url = target.url("/");
    let id = domain::TargetUrl::parse(&url).unwrap().subscription_id();
    for _ in 0..2 {
        api.register(&url, &["a"], &json!({})).await;
        eventually_async("the lane is written", SOON, async || !nats.value("LANES", &url).await.is_null()).await;
        api.unregister(&url, "a").await;
        eventually_async("the lane is gone", SOON, async || nats.value("LANES", &url).await.is_null()).await;
    }
    for bucket in ["SUBSCRIPTIONS", "LANES"] {
        let stream = context.get_stream(format!("KV_{bucket}")).await.unwrap();
        let marker = stream.get_last_raw_message_by_subject(&format!("$KV.{bucket}.{id}")).await.unwrap();
        assert_eq!(
            marker.headers.get("Nats-TTL").map(|ttl| ttl.as_str()),
            Some("3600"),
            "{bucket}: {:?}",
            marker.headers
        );
        assert!(marker.headers.get("KV-Operation").is_some());
    }
}
