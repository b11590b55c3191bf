//! Earlier events of a transaction, for `required_data`.
//!
//! The log is the truth. A bounded number of transactions is remembered, each read up to some sequence; what came after
//! is read when it is asked for. The first question about a transaction costs reading the log from where it began:
//! from its first event, where the id is a stamp and the log shows that a receiver made it, and otherwise from the log's
//! first event.

use std::collections::{BTreeSet, HashMap, VecDeque};

use broker::Unavailable;
use broker::event_log::{End, EventLog};
use domain::required_data::{Found, value_of};
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Event, Stamp};
use tokio::sync::Mutex;

/// How many transactions are remembered.
const MAX_TRANSACTIONS: usize = 1000;
/// How much of them is remembered, in bytes of values.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How much of one is, before only the latest values are kept.
const MAX_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
/// How many events are read at a time.
const PAGE: usize = 1000;

/// What is known of recent transactions.
pub(crate) struct Transactions {
    log: EventLog,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    by_id: HashMap<String, Transaction>,
    /// The ids, the one that was asked for longest ago first.
    by_age: VecDeque<String>,
    bytes: usize,
}

#[derive(Default)]
struct Transaction {
    /// What was looked for.
    keys: BTreeSet<String>,
    /// What its events below [`Transaction::read_to`] have under these keys, in order.
    values: Vec<Value>,
    read_to: u64,
    /// Before this sequence not all values are kept any more.
    kept_from: u64,
    bytes: usize,
}

/// One event's value for one key.
struct Value {
    sequence: u64,
    key: String,
    json: String,
}

impl Transactions {
    pub(crate) fn new(log: EventLog) -> Self {
        Self { log, remembered: Mutex::new(Remembered::default()) }
    }

    /// The values that the latest earlier events of an event's transaction have for these keys, as far as they have.
    pub(crate) async fn find(&self, event: &Event, keys: &BTreeSet<String>) -> Result<Found, Unavailable> {
        if keys.is_empty() {
            return Ok(Found::new());
        }
        let mut transaction = self.remembered.lock().await.take(&event.transaction_id);
        if !keys.is_subset(&transaction.keys) || event.sequence < transaction.kept_from {
            let keys = transaction.keys.union(keys).cloned().collect();
            transaction = Transaction { keys, ..Transaction::default() };
        }
        let read = self.read(&mut transaction, event).await;
        let found =
            keys.iter().filter_map(|key| Some((key.clone(), transaction.latest(key, event.sequence)?))).collect();
        self.remembered.lock().await.put(event.transaction_id.clone(), transaction);
        read.map(|()| found)
    }

    /// Reads on to the event, which is in the log.
    async fn read(&self, transaction: &mut Transaction, event: &Event) -> Result<(), Unavailable> {
        if transaction.read_to == 0 {
            transaction.read_to = self.beginning_of(event).await?;
        }
        while transaction.read_to < event.sequence {
            let page = self.log.read(transaction.read_to, None, PAGE).await?;
            let last = page.events.last().map(|event| event.sequence);
            for earlier in page.events.iter().filter(|earlier| earlier.transaction_id == event.transaction_id) {
                transaction.take_in(earlier);
            }
            transaction.read_to = match (page.end, last) {
                (End::Before(next), _) => next,
                (End::OfLog, Some(last)) if last >= event.sequence => last + 1,
                (End::OfLog, _) => {
                    let why = "a replica that lags has answered";
                    return Err(Unavailable::new("reading the transaction's earlier events", why));
                }
            };
        }
        Ok(())
    }

    /// Where to begin to read for the events of the transaction that are before this one.
    async fn beginning_of(&self, event: &Event) -> Result<u64, Unavailable> {
        let began = Stamp::of_transaction(&event.transaction_id);
        if began == Some(event.time) && event.began_its_transaction(CLOCK_SKEW_MARGIN_MICROS) {
            return Ok(event.sequence);
        }
        self.log.beginning_of(&event.transaction_id).await
    }
}

impl Remembered {
    /// What is known of a transaction, to be put back.
    fn take(&mut self, id: &str) -> Transaction {
        let Some(transaction) = self.by_id.remove(id) else { return Transaction::default() };
        self.by_age.retain(|known| known != id);
        self.bytes -= transaction.bytes;
        transaction
    }

    fn put(&mut self, id: String, transaction: Transaction) {
        self.take(&id);
        self.bytes += transaction.bytes;
        self.by_id.insert(id.clone(), transaction);
        self.by_age.push_back(id);
        while self.by_age.len() > MAX_TRANSACTIONS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.by_age.front().cloned() else { return };
            self.take(&oldest);
        }
    }
}

impl Transaction {
    fn take_in(&mut self, event: &Event) {
        for key in &self.keys {
            if let Some(json) = value_of(&event.data, key) {
                self.bytes += key.len() + json.len();
                self.values.push(Value { sequence: event.sequence, key: key.clone(), json });
            }
        }
        if self.bytes > MAX_TRANSACTION_BYTES {
            self.keep_the_latest(event.sequence);
        }
    }

    /// Keeps the latest value of each key only: enough for what comes after this sequence.
    fn keep_the_latest(&mut self, sequence: u64) {
        let mut seen = BTreeSet::new();
        let mut latest: Vec<Value> =
            std::mem::take(&mut self.values).into_iter().rev().filter(|v| seen.insert(v.key.clone())).collect();
        latest.reverse();
        self.bytes = latest.iter().map(|value| value.key.len() + value.json.len()).sum();
        (self.values, self.kept_from) = (latest, sequence + 1);
    }

    /// The value that the latest event before a sequence has under a key.
    fn latest(&self, key: &str, before: u64) -> Option<String> {
        let earlier = self.values.iter().rev().find(|value| value.sequence < before && value.key == key)?;
        Some(earlier.json.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(bytes: usize) -> Transaction {
        Transaction { bytes, read_to: 2, ..Transaction::default() }
    }

    #[test]
    fn a_large_transaction_keeps_its_latest_values() {
        let event = |sequence, value: &str| {
            let data = format!("{{\"k\":\"{value}\",\"other\":1}}").into();
            Event::from_message("EVENTS", "events.a", sequence, Stamp::from_micros(0), [], data).unwrap()
        };
        let mut transaction = Transaction { keys: BTreeSet::from(["k".to_owned()]), ..Transaction::default() };
        transaction.take_in(&event(1, "first"));
        transaction.take_in(&event(2, "second"));
        assert_eq!(transaction.latest("k", 2).as_deref(), Some("\"first\""));
        assert_eq!(transaction.latest("k", 3).as_deref(), Some("\"second\""));
        transaction.take_in(&event(3, &"x".repeat(MAX_TRANSACTION_BYTES)));
        assert_eq!((transaction.values.len(), transaction.kept_from), (1, 4));
        assert!(transaction.latest("k", 4).is_some());
    }

    #[test]
    fn what_was_asked_for_longest_ago_is_forgotten_first() {
        let mut known = Remembered::default();
        for n in 0..=MAX_TRANSACTIONS {
            known.put(n.to_string(), transaction(1));
        }
        assert_eq!(known.by_id.len(), MAX_TRANSACTIONS);
        assert_eq!(known.take("0").read_to, 0);
        assert_eq!(known.take("1").read_to, 2);
        known.put("large".into(), transaction(MAX_BYTES - 1));
        known.put("one more".into(), transaction(1));
        assert_eq!((known.by_age.len(), known.bytes), (2, MAX_BYTES));
        known.put("too large".into(), transaction(MAX_BYTES + 1));
        assert_eq!((known.by_age.len(), known.bytes), (0, 0));
    }
}
