//! What the parts can do without mer: NATS as fast as a client drives it. (HTTP as fast as it goes is
//! [`crate::generator::closed`] straight to the target.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use domain::Stamp;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use crate::generator::{Load, Pace};
use crate::{clock, request};

/// How many messages are asked for at a time.
const PULL_BATCH: usize = 500;

/// A message like those that mer stores: the same data under the same headers.
#[derive(Clone)]
pub(crate) struct Message {
    subject: String,
    headers: HeaderMap,
    data: Bytes,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After so long.
    Time(Duration),
    /// After so many.
    Count(u64),
}

impl Message {
    /// An event of a type, of now.
    pub(crate) fn new(event_type: &str) -> Self {
        let now = Stamp::now().to_rfc3339();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "0197a6a5-7c5b-7d7e-8a64-1f6f7d1c2b3a"),
            ("ce-source", "/receive_event"),
            ("ce-type", event_type),
            ("ce-time", &now),
            ("ce-transactionid", "benchmark"),
            ("content-type", "application/json"),
        ] {
            headers.insert(name, value);
        }
        Self { subject: format!("events.{event_type}"), headers, data: request::data().into() }
    }

    /// The same without headers.
    pub(crate) fn bare(event_type: &str) -> Self {
        Self { headers: HeaderMap::new(), ..Self::new(event_type) }
    }

    async fn publish(&self, context: &Context) -> anyhow::Result<u64> {
        let message = PublishMessage::build().payload(self.data.clone()).headers(self.headers.clone());
        let ack = context.send_publish(self.subject.clone(), message).await?.await?;
        Ok(ack.sequence)
    }

    /// A batch that is stored whole (ADR-50). Answers with the last sequence.
    async fn publish_batch(&self, context: &Context, count: u64) -> anyhow::Result<u64> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = format!("benchmark-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut headers = self.headers.clone();
        headers.insert("Nats-Batch-Id", id.as_str());
        for number in 1..count {
            let mut headers = headers.clone();
            headers.insert("Nats-Batch-Sequence", number.to_string().as_str());
            context.client().publish_with_headers(self.subject.clone(), headers, self.data.clone()).await?;
        }
        headers.insert("Nats-Batch-Sequence", count.to_string().as_str());
        headers.insert("Nats-Batch-Commit", "1");
        let message = PublishMessage::build().payload(self.data.clone()).headers(headers);
        Ok(context.send_publish(self.subject.clone(), message).await?.await?.sequence)
    }
}

/// Publishes with so many in flight, each acknowledged before the next. Answers how many a second.
pub(crate) async fn publish(
    context: &Context,
    message: &Message,
    in_flight: usize,
    until: Until,
) -> anyhow::Result<f64> {
    drive(context, message, in_flight, until, 1).await
}

/// Publishes in atomic batches, with so many batches in flight. Answers how many events a second.
pub(crate) async fn publish_batches(
    context: &Context,
    message: &Message,
    batch: u64,
    in_flight: usize,
    until: Until,
) -> anyhow::Result<f64> {
    drive(context, message, in_flight, until, batch).await
}

async fn drive(
    context: &Context,
    message: &Message,
    in_flight: usize,
    until: Until,
    batch: u64,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let (context, message, taken) = (context.clone(), message.clone(), taken.clone());
        tasks.spawn(async move {
            let mut count = 0;
            loop {
                let before = taken.fetch_add(batch, Ordering::Relaxed);
                let goes_on = match until {
                    Until::Time(time) => began.elapsed() < time,
                    Until::Count(count) => before < count,
                };
                if !goes_on {
                    return anyhow::Ok(count);
                }
                match batch {
                    1 => message.publish(&context).await?,
                    _ => message.publish_batch(&context, batch).await?,
                };
                count += batch as usize;
            }
        });
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(clock::per_second(count, began.elapsed()))
}

/// Publishes so many a second, at even distances, one after the other; latencies count from when each was due.
pub(crate) async fn publish_paced(
    context: &Context,
    message: &Message,
    rate: f64,
    time: Duration,
) -> anyhow::Result<Load> {
    let mut pace = Pace::start((rate * time.as_secs_f64()) as usize, rate)?;
    let (began, mut load) = (Instant::now(), Load::default());
    while let Some(due) = pace.next().await {
        load.sequences.push(message.publish(context).await?);
        load.latencies.push(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
        load.events += 1;
    }
    load.took = began.elapsed();
    Ok(load)
}

/// Reads all that is stored of a type with one pull consumer, and acknowledges each message, again and again for so
/// long. Answers how many a second.
pub(crate) async fn read(context: &Context, event_type: &str, time: Duration) -> anyhow::Result<f64> {
    let stream = context.get_stream("EVENTS").await?;
    let (began, mut count, mut reading) = (Instant::now(), 0, Duration::ZERO);
    while began.elapsed() < time {
        let config = pull::Config {
            filter_subject: format!("events.{event_type}"),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: 10_000,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let pending = consumer.cached_info().num_pending as usize;
        ensure!(pending > 0, "there is nothing to read");
        let mut messages = consumer.stream().max_messages_per_batch(PULL_BATCH).messages().await?;
        let since = Instant::now();
        for _ in 0..pending {
            let message = messages.next().await.ok_or_else(|| anyhow::anyhow!("reading ended"))??;
            message.ack().await.map_err(|error| anyhow::anyhow!("acknowledging: {error}"))?;
        }
        reading += since.elapsed();
        count += pending;
        drop(messages);
        stream.delete_consumer(&consumer.cached_info().name).await?;
    }
    Ok(clock::per_second(count, reading))
}
