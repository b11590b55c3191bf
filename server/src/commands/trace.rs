//! `mer trace`: a transaction's events in order, with which URL got each when.

use std::io::{Write, stdout};

use anyhow::Context;
use domain::{EventType, Stamp, TypePattern};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, ApiAccess, printable};
use super::events::{encoded, path_with};
use super::subs::{shown, subscriptions};

/// The most attempts of one subscription that are looked at.
const MAX_ATTEMPTS: usize = 1000;
/// How many dead letters are asked for at a time.
const LETTERS_AT_A_TIME: usize = 1000;

pub(crate) async fn run(transaction: &str, access: &ApiAccess) -> anyhow::Result<()> {
    let api = Api::new(access)?;
    let events = events(&api, transaction).await?;
    let sequences: Vec<u64> = events.iter().filter_map(|event| event["sequence"].as_u64()).collect();
    let (Some(first), Some(last)) = (sequences.first(), sequences.last()) else {
        anyhow::bail!("there is no event of transaction {transaction}")
    };
    let letters = letters(&api, transaction).await?;
    let mut subscribers = Vec::new();
    for subscription in subscriptions(&api, None).await? {
        subscribers.push(Subscriber::read(&api, subscription, *first, *last).await?);
    }
    for (i, event) in events.iter().enumerate() {
        let traced = Traced { event, earlier: &events[..i], letters: &letters };
        let deliveries: Vec<Value> =
            subscribers.iter().filter_map(|subscriber| subscriber.delivery_of(&traced)).collect();
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

/// An event, with what tells what became of it.
struct Traced<'a> {
    event: &'a Value,
    /// The events of the transaction before it.
    earlier: &'a [Value],
    /// The transaction's dead letters.
    letters: &'a [Value],
}

/// A subscription, and what is known of its attempts.
struct Subscriber {
    id: Value,
    url: Value,
    entries: Vec<Entry>,
    position: u64,
    /// The last attempts, the latest first.
    attempts: Vec<Value>,
}

/// What a subscription is registered for.
struct Entry {
    pattern: TypePattern,
    /// With which sequence it begins.
    from_sequence: u64,
    transaction: Option<String>,
    start: Option<Stamp>,
    end: Option<Stamp>,
    required: Vec<String>,
}

impl Entry {
    fn of(event: &Value, status: &Value) -> Option<Self> {
        let pattern = event["type"].as_str()?;
        let moment = |name: &str| Stamp::parse(event[name].as_str()?).ok();
        let keys = event["required_data"].as_array().into_iter().flatten();
        Some(Self {
            pattern: TypePattern::parse(pattern).ok()?,
            from_sequence: status["events"][pattern]["from_sequence"].as_u64().unwrap_or(0),
            transaction: event["transaction_id"].as_str().map(str::to_owned),
            start: moment("datetime_start"),
            end: moment("datetime_end"),
            required: keys.filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    }

    /// Whether it wants such an event at all.
    fn is_for(&self, event: &Value, event_type: &EventType) -> bool {
        self.pattern.matches(event_type)
            && self.transaction.as_ref().is_none_or(|transaction| event["transaction_id"] == **transaction)
    }

    /// Why the event does not come by it, as far as can be told.
    fn why_not(&self, traced: &Traced<'_>, sequence: u64) -> Option<&'static str> {
        let time = traced.event["time"].as_str().and_then(|time| Stamp::parse(time).ok());
        let has = |event: &Value, key: &String| event["data"].get(key).is_some();
        let lacks = |key: &String| !has(traced.event, key) && !traced.earlier.iter().any(|event| has(event, key));
        if sequence < self.from_sequence {
            Some("registered later")
        } else if time.is_some_and(|time| self.end.is_some_and(|end| time > end)) {
            Some("it had ended")
        } else if time.is_some_and(|time| self.start.is_some_and(|start| time < start)) {
            Some("before its start")
        } else if self.required.iter().any(lacks) {
            Some("skipped: it lacks required_data")
        } else {
            None
        }
    }
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
        let (events, status) = (subscription["events"].as_array().into_iter().flatten(), &subscription["status"]);
        Ok(Self {
            id: subscription["id"].clone(),
            url: subscription["url"].clone(),
            entries: events.filter_map(|event| Entry::of(event, status)).collect(),
            position: status["position"].as_u64().unwrap_or(0),
            attempts: answer["attempts"].as_array().cloned().unwrap_or_default(),
        })
    }

    /// What became of an event here, if anything could.
    fn delivery_of(&self, traced: &Traced<'_>) -> Option<Value> {
        let sequence = traced.event["sequence"].as_u64()?;
        let event_type = EventType::parse(traced.event["type"].as_str()?).ok()?;
        let wanting: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.is_for(traced.event, &event_type)).collect();
        let attempt = self.attempts.iter().find(|attempt| is_of(attempt, sequence, !wanting.is_empty()));
        let is_taken = attempt.is_some_and(|attempt| attempt["error"].is_null());
        let is_of = |letter: &&Value| letter["subscription"] == self.id && letter["event"]["sequence"] == sequence;
        let letter = traced.letters.iter().rev().find(is_of).map(|letter| &letter["sequence"]);
        let why_not: Vec<Option<&str>> = wanting.iter().map(|entry| entry.why_not(traced, sequence)).collect();
        let mut delivery = json!({"id": self.id, "url": self.url, "attempt": attempt});
        let outcome = match (attempt, letter, why_not.as_slice()) {
            _ if is_taken => "delivered",
            (_, Some(letter), _) => {
                delivery["dead_letter"] = letter.clone();
                "dead_letter"
            }
            // What came of a later attempt is not known any more.
            (Some(_), ..) => {
                if sequence <= self.position {
                    "passed"
                } else {
                    "failed"
                }
            }
            (None, None, []) => return None,
            (None, None, [Some(why), rest @ ..]) if rest.iter().all(Option::is_some) => {
                delivery["reason"] = (*why).into();
                "not_delivered"
            }
            (None, None, _) => {
                if sequence <= self.position {
                    "passed"
                } else {
                    "waiting"
                }
            }
        };
        delivery["outcome"] = outcome.into();
        Some(delivery)
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

/// The dead letters whose events are of the transaction, in their order.
async fn letters(api: &Api, transaction: &str) -> anyhow::Result<Vec<Value>> {
    let (mut letters, mut after) = (Vec::new(), 0);
    loop {
        let pairs = [("after", after.to_string()), ("limit", LETTERS_AT_A_TIME.to_string())];
        let page = api.json(api.request(Method::GET, &path_with("/v1/dead-letters", &pairs))).await?;
        let all = page["dead_letters"].as_array().into_iter().flatten();
        letters.extend(all.filter(|letter| letter["event"]["transaction_id"] == transaction).cloned());
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return Ok(letters),
        }
    }
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
        Some("failed") => format!("→ {url}  failed {}: {}", text(&attempt["at"]), shown(&attempt["error"])),
        Some("dead_letter") => {
            format!("→ {url}  dead letter {}: {}", delivery["dead_letter"], shown(&attempt["error"]))
        }
        Some("not_delivered") => format!("→ {url}  not delivered ({})", text(&delivery["reason"])),
        Some("passed") => format!("→ {url}  passed; when is not known any more"),
        _ => format!("→ {url}  waiting"),
    }
}
