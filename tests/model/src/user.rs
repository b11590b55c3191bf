//! What a user does: posts, and calls about URLs, each made again until its answer is certain; all of it is written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use domain::{Stamp, TargetUrl};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::Api;

use crate::history::{Ask, Delivery, Entry, Event, History, Status, Url, What, Words};
use crate::operation::Post;
use crate::target::micros;

/// How long a call may take until it has an answer.
const DEADLINE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(100);
const BATCH: &str = "application/cloudevents-batch+json";
const PAGE: usize = 1000;

pub(crate) struct User {
    api: Api,
    history: Arc<History>,
    urls: Vec<String>,
    calls: AtomicU32,
    posts: AtomicU64,
}

impl User {
    pub(crate) fn new(api: Api, history: Arc<History>, urls: Vec<String>) -> Self {
        Self { api, history, urls, calls: AtomicU32::new(0), posts: AtomicU64::new(0) }
    }

    /// The id of a URL's subscription.
    pub(crate) fn id(&self, url: Url) -> Result<String> {
        Ok(TargetUrl::parse(&self.urls[url])?.subscription_id().to_string())
    }

    /// Posts one event, by the seed's call. It may come to nothing.
    pub(crate) async fn post(&self, post: &Post) {
        let began = self.history.len();
        self.history.add(self.try_post(post).await.map_or(What::Unknown, |event| What::Posted { began, event }));
    }

    async fn try_post(&self, post: &Post) -> Option<Event> {
        let mut data = json!({ "n": self.posts.fetch_add(1, Ordering::Relaxed) });
        put_in(&mut data, post, None);
        let path = format!("/receive_event/{}", post.kind);
        let response = self.api.send(Method::POST, &path, &[], data.to_string()).await.ok()?;
        if response.status() != 200 {
            return None;
        }
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (sequence, time) = (header("event-sequence")?.parse().ok()?, micros(&header("event-time")?));
        let body = json_of(response).await?;
        let transaction = body["event_received"]["data"]["transaction_id"].as_str()?.to_owned();
        Some(Event { sequence, kind: post.kind.clone(), transaction, has_key: post.has_key, time })
    }

    /// Posts several as one batch. It may come to nothing.
    pub(crate) async fn post_batch(&self, posts: &[Post]) {
        let began = self.history.len();
        match self.try_post_batch(posts).await {
            Some(events) => events.into_iter().for_each(|event| self.history.add(What::Posted { began, event })),
            None => self.history.add(What::Unknown),
        }
    }

    async fn try_post_batch(&self, posts: &[Post]) -> Option<Vec<Event>> {
        let (mut body, mut transactions) = (Vec::new(), Vec::new());
        for post in posts {
            let n = self.posts.fetch_add(1, Ordering::Relaxed);
            let mut data = json!({ "n": n });
            let transaction = put_in(&mut data, post, Some(n));
            body.push(json!({
                "specversion": "1.0", "id": format!("{n}"), "source": "model", "type": post.kind,
                "transactionid": transaction, "datacontenttype": "application/json", "data": data,
            }));
            transactions.push(transaction);
        }
        let headers = [("content-type", BATCH)];
        let sent = self.api.send(Method::POST, "/v1/events", &headers, Value::from(body).to_string()).await;
        let response = sent.ok().filter(|response| response.status() == 201)?;
        let answer = json_of(response).await?;
        let stored = answer["events"].as_array()?.iter().zip(posts).zip(transactions);
        let event = |((stored, post), transaction): ((&Value, &Post), String)| {
            let (sequence, time) = (stored["sequence"].as_u64()?, micros(stored["time"].as_str()?));
            Some(Event { sequence, kind: post.kind.clone(), transaction, has_key: post.has_key, time })
        };
        stored.map(event).collect()
    }

    /// Makes a call about a URL until its answer is certain. Answers whether it was taken.
    pub(crate) async fn ask(&self, url: Url, ask: Ask) -> Result<bool> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let (method, path, body) = self.request(url, &ask).await?;
        self.history.add(What::Called { call, url, ask: ask.clone() });
        let (began, mut tries) = (Instant::now(), 0);
        let is_taken = loop {
            tries += 1;
            let sent = self.api.send(method.clone(), &path, &[], body.clone()).await;
            match sent.map(|response| response.status().as_u16()) {
                Ok(200..300) => break true,
                // The call before it may have removed it.
                Ok(404) if tries > 1 && ask == Ask::Delete => break true,
                Ok(400..=407 | 409..=428) => break false,
                _ if began.elapsed() > DEADLINE => bail!("no certain answer to {ask:?}"),
                _ => tokio::time::sleep(RETRY).await,
            }
        };
        self.history.add(What::Returned { call, is_taken, tries });
        Ok(is_taken)
    }

    async fn request(&self, url: Url, ask: &Ask) -> Result<(Method, String, String)> {
        let (id, target) = (self.id(url)?, &self.urls[url]);
        let subscription = format!("/v1/subscriptions/{id}");
        let made = match ask {
            Ask::Register(entries) => {
                let register = |(pattern, words): &Entry| {
                    let mut attributes = attributes(words);
                    attributes["url"] = target.as_str().into();
                    json!({"event": pattern, "urls_to_register": [attributes]})
                };
                let events: Vec<Value> = entries.iter().map(register).collect();
                (Method::POST, "/register_for_events/".to_owned(), json!({ "events_to_register": events }))
            }
            Ask::Unregister(patterns) => {
                let remove = |pattern| json!({"event": pattern, "urls_to_unregister": [{"url": target}]});
                let events: Vec<Value> = patterns.iter().map(remove).collect();
                (Method::POST, "/unregister_for_events/".to_owned(), json!({ "events_to_unregister": events }))
            }
            Ask::Put(entries, delivery) => {
                let body = json!({"url": target, "events": events(entries), "delivery": settings(delivery, false)});
                (Method::PUT, "/v1/subscriptions".to_owned(), body)
            }
            Ask::PatchEvents(entries) => (Method::PATCH, subscription, json!({ "events": events(entries) })),
            Ask::PatchDelivery(delivery) => {
                (Method::PATCH, subscription, json!({ "delivery": settings(delivery, true) }))
            }
            Ask::Delete => (Method::DELETE, subscription, Value::Null),
            Ask::Pause => (Method::POST, format!("{subscription}/pause"), Value::Null),
            Ask::Resume => (Method::POST, format!("{subscription}/resume"), Value::Null),
            Ask::Replay(from, to) => {
                let mut body = json!({ "from": time(*from) });
                if let Some(to) = to {
                    body["to"] = time(*to).into();
                }
                (Method::POST, format!("{subscription}/replay"), body)
            }
            Ask::Redrive(events) => {
                let letters = self.letters(url).await?;
                let sequences: Vec<u64> =
                    letters.iter().filter(|(_, event)| events.contains(event)).map(|(letter, _)| *letter).collect();
                let body = json!({"subscription": id, "sequences": sequences});
                (Method::POST, "/v1/dead-letters/redrive".to_owned(), body)
            }
        };
        let (method, path, body) = made;
        Ok((method, path, if body.is_null() { String::new() } else { body.to_string() }))
    }

    /// A GET until it is answered. `None`: 404.
    async fn get(&self, path: &str) -> Result<Option<Value>> {
        let began = Instant::now();
        loop {
            if let Ok(response) = self.api.send(Method::GET, path, &[], "").await {
                match response.status().as_u16() {
                    200 => return Ok(Some(json_of(response).await.context("JSON")?)),
                    404 => return Ok(None),
                    _ => {}
                }
            }
            if began.elapsed() > DEADLINE {
                bail!("no answer to {path}");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The dead letters of a URL: their own sequences, and those of their events.
    pub(crate) async fn letters(&self, url: Url) -> Result<Vec<(u64, u64)>> {
        let path = format!("/v1/dead-letters?limit={PAGE}&subscription={}", self.id(url)?);
        let answer = self.get(&path).await?.unwrap_or_default();
        let letters = answer["dead_letters"].as_array().map_or(&[][..], Vec::as_slice);
        let of = |letter: &Value| Some((letter["sequence"].as_u64()?, letter["event"]["sequence"].as_u64()?));
        Ok(letters.iter().filter_map(of).collect())
    }

    /// How a URL's subscription stands.
    pub(crate) async fn status(&self, url: Url) -> Result<Option<Status>> {
        let Some(answer) = self.get(&format!("/v1/subscriptions/{}", self.id(url)?)).await? else { return Ok(None) };
        let status = &answer["status"];
        let gap = &status["gap"];
        let delivered: BTreeMap<String, u64> = status["events"]
            .as_object()
            .map(|events| events.iter().map(|(p, of)| (p.clone(), of["delivered"].as_u64().unwrap_or(0))).collect())
            .unwrap_or_default();
        Ok(Some(Status {
            state: status["state"].as_str().unwrap_or_default().to_owned(),
            phase: status["phase"].as_str().map(str::to_owned),
            position: status["position"].as_u64().unwrap_or(0),
            lag: status["lag"].as_u64(),
            delivered,
            gap: gap["from_sequence"].as_u64().zip(gap["to_sequence"].as_u64()),
        }))
    }

    /// What stands in the log.
    pub(crate) async fn log(&self) -> Result<What> {
        let (mut events, mut after): (Vec<Event>, u64) = (Vec::new(), 0);
        loop {
            let path = format!("/v1/events?limit={PAGE}&after_sequence={after}");
            let page = self.get(&path).await?.context("a page")?;
            for event in page["events"].as_array().context("events")? {
                let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                after = event["sequence"].as_u64().context("a sequence")?;
                events.push(Event {
                    sequence: after,
                    kind: text("type"),
                    transaction: text("transaction_id"),
                    has_key: event["data"].get("k").is_some(),
                    time: micros(&text("time")),
                });
            }
            if page["next"].is_null() {
                let first = events.first().map_or(1, |event| event.sequence);
                return Ok(What::Log { first, events });
            }
        }
    }
}

async fn json_of(response: Response) -> Option<Value> {
    serde_json::from_str(&response.text().await.ok()?).ok()
}

/// Puts in what a post has. Answers its transaction: an own one where it names none, if it must have one.
fn put_in(data: &mut Value, post: &Post, own: Option<u64>) -> String {
    let transaction = post.transaction.map(|n| format!("t{n}")).or(own.map(|n| format!("own-{n}")));
    if let Some(transaction) = &transaction {
        data["transaction_id"] = transaction.as_str().into();
    }
    if post.has_key {
        data["k"] = true.into();
    }
    transaction.unwrap_or_default()
}

fn time(micros: i64) -> String {
    Stamp::from_micros(micros).to_rfc3339()
}

fn attributes(words: &Words) -> Value {
    let mut attributes = json!({});
    let Words { transaction, start, end, count, requires, allow_gap, .. } = words;
    let named = [
        ("transaction_id", transaction.as_deref().map(Value::from)),
        ("datetime_start", start.map(|start| time(start).into())),
        ("datetime_end", end.map(|end| time(end).into())),
        ("count", count.map(Value::from)),
        ("required_data", requires.then(|| json!(["k"]))),
        ("allow_gap", allow_gap.then(|| true.into())),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            attributes[name] = value;
        }
    }
    attributes
}

fn events(entries: &[Entry]) -> Vec<Value> {
    let event = |(pattern, words): &Entry| {
        let mut event = attributes(words);
        event["type"] = pattern.as_str().into();
        event
    };
    entries.iter().map(event).collect()
}

/// The settings; where they change others, what is not said is taken away.
fn settings(delivery: &Delivery, is_change: bool) -> Value {
    let mut settings = serde_json::to_value(delivery).unwrap_or_default();
    if let Some(settings) = settings.as_object_mut().filter(|_| !is_change) {
        settings.retain(|_, value| !value.is_null());
    }
    settings
}
