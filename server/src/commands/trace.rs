//! `mer trace`: a transaction's events in order, with which URL got each when.

use std::io::{Write, stdout};

use anyhow::Context;
use domain::{EventType, TypePattern};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, ApiAccess, printable};
use super::events::{encoded, path_with};
use super::subs::subscriptions;

/// The most attempts of one subscription that are looked at.
const MAX_ATTEMPTS: usize = 1000;

pub(crate) async fn run(transaction: &str, access: &ApiAccess) -> anyhow::Result<()> {
    let api = Api::new(access)?;
    let events = events(&api, transaction).await?;
    let sequences: Vec<u64> = events.iter().filter_map(|event| event["sequence"].as_u64()).collect();
    let (Some(first), Some(last)) = (sequences.first(), sequences.last()) else {
        anyhow::bail!("there is no event of transaction {transaction}")
    };
    let mut subscribers = Vec::new();
    for subscription in subscriptions(&api, None).await? {
        subscribers.push(Subscriber::read(&api, subscription, *first, *last).await?);
    }
    for event in &events {
        let deliveries: Vec<Value> =
            subscribers.iter().filter_map(|subscriber| subscriber.delivery_of(event)).collect();
        if access.json {
            writeln!(stdout(), "{}", json!({"event": event, "deliveries": deliveries}))?;
            continue;
        }
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let line = format!("{:>8}  {}  {}  {}", event["sequence"], text("time"), text("type"), event["data"]);
        writeln!(stdout(), "{}", printable(&line))?;
        for delivery in &deliveries {
            writeln!(stdout(), "          {}", line_of(delivery))?;
        }
    }
    Ok(())
}

/// A subscription, and what is known of its attempts.
struct Subscriber {
    id: Value,
    url: Value,
    patterns: Vec<TypePattern>,
    position: u64,
    /// The last attempts, the latest first.
    attempts: Vec<Value>,
}

impl Subscriber {
    async fn read(api: &Api, subscription: Value, first: u64, last: u64) -> anyhow::Result<Self> {
        let id = subscription["id"].as_str().context("an unreadable answer")?;
        let pairs = [
            ("from_sequence", first.to_string()),
            ("to_sequence", last.to_string()),
            ("limit", MAX_ATTEMPTS.to_string()),
        ];
        let path = path_with(&format!("/v1/subscriptions/{}/attempts", encoded(id)), &pairs);
        let answer = api.json(api.request(Method::GET, &path)).await?;
        let events = subscription["events"].as_array().into_iter().flatten();
        Ok(Self {
            id: subscription["id"].clone(),
            url: subscription["url"].clone(),
            patterns: events.filter_map(|event| TypePattern::parse(event["type"].as_str()?).ok()).collect(),
            position: subscription["status"]["position"].as_u64().unwrap_or(0),
            attempts: answer["attempts"].as_array().cloned().unwrap_or_default(),
        })
    }

    /// What became of an event here, if anything could.
    fn delivery_of(&self, event: &Value) -> Option<Value> {
        let sequence = event["sequence"].as_u64()?;
        let event_type = EventType::parse(event["type"].as_str()?).ok()?;
        let is_wanted = self.patterns.iter().any(|pattern| pattern.matches(&event_type));
        let attempt = self.attempts.iter().find(|attempt| is_of(attempt, sequence, is_wanted));
        let outcome = match attempt {
            Some(attempt) if attempt["error"].is_null() => "delivered",
            // What came of a later attempt is not known any more.
            Some(_) if sequence <= self.position => "passed",
            Some(_) => "failed",
            None if !is_wanted => return None,
            // It was delivered, or not wanted after all (another transaction, an earlier time): no attempt is known.
            None if sequence <= self.position => "passed",
            None => "waiting",
        };
        Some(json!({"id": self.id, "url": self.url, "outcome": outcome, "attempt": attempt}))
    }
}

/// Whether an attempt was at an event: between the first and the last one of a batch there may be others.
fn is_of(attempt: &Value, sequence: u64, is_wanted: bool) -> bool {
    let (first, last) = (attempt["sequence"].as_u64(), attempt["to_sequence"].as_u64());
    first == Some(sequence) || last == Some(sequence) || (is_wanted && first < Some(sequence) && last > Some(sequence))
}

/// The events of a transaction, in order.
async fn events(api: &Api, transaction: &str) -> anyhow::Result<Vec<Value>> {
    let path = path_with("/v1/events", &[("transaction_id", transaction.to_owned())]);
    let mut lines = api.lines(api.request(Method::GET, &path).header("accept", "application/x-ndjson")).await?;
    let mut events = Vec::new();
    while let Some(line) = lines.next_line().await? {
        events.push(serde_json::from_str(&line).context("an unreadable answer")?);
    }
    Ok(events)
}

fn line_of(delivery: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (url, attempt) = (text(&delivery["url"]), &delivery["attempt"]);
    match delivery["outcome"].as_str() {
        Some("delivered") => {
            format!(
                "→ {url}  delivered {} (attempt {}, {} ms)",
                text(&attempt["at"]),
                attempt["attempt"],
                attempt["duration_ms"]
            )
        }
        Some("failed") => format!("→ {url}  failed {}: {}", text(&attempt["at"]), text(&attempt["error"])),
        Some("passed") => format!("→ {url}  passed; when is not known any more"),
        _ => format!("→ {url}  waiting"),
    }
}
