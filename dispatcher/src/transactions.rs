//! Earlier events of a transaction, for `required_data`.
//!
//! The log is the truth. A bounded number of transactions is remembered, each read up to some sequence; what came after
//! is read when it is asked for. The first question about a transaction costs reading the log from where it began:
//! from its stamp, where the id is one as receivers make them, and otherwise from the log's first event.

use std::collections::{BTreeSet, HashMap, VecDeque};

use broker::Unavailable;
use broker::event_log::{End, EventLog};
use bytes::Bytes;
use domain::required_data::{Found, value_of};
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Event, Stamp};
use tokio::sync::Mutex;

/// How many transactions are remembered.
const MAX_TRANSACTIONS: usize = 1000;
/// How much of them is remembered, in bytes of payload.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How many events are read at a time.
const PAGE: usize = 1000;

/// What is known of recent transactions.
pub(crate) struct Transactions {
    log: EventLog,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<String, Transaction>,
    /// The ids, the one that was asked for longest ago first.
    by_age: VecDeque<String>,
    bytes: usize,
}

#[derive(Default, Clone)]
struct Transaction {
    /// Its events below [`Transaction::read_to`], in order.
    events: Vec<(u64, Bytes)>,
    read_to: u64,
}

impl Transactions {
    pub(crate) fn new(log: EventLog) -> Self {
        Self { log, known: Mutex::new(Known::default()) }
    }

    /// The values that the latest earlier events of an event's transaction have for these keys, as far as they have.
    pub(crate) async fn find(&self, event: &Event, keys: &BTreeSet<String>) -> Result<Found, Unavailable> {
        if keys.is_empty() {
            return Ok(Found::new());
        }
        let mut transaction = self.known.lock().await.take(&event.transaction_id);
        let read = self.read(&mut transaction, event).await;
        let earlier = || transaction.events.iter().rev().filter(|(sequence, _)| *sequence < event.sequence);
        let value = |key: &String| Some((key.clone(), earlier().find_map(|(_, data)| value_of(data, key))?));
        let found = keys.iter().filter_map(value).collect();
        self.known.lock().await.put(event.transaction_id.clone(), transaction);
        read.map(|()| found)
    }

    /// Reads on to the event, which is in the log.
    async fn read(&self, transaction: &mut Transaction, event: &Event) -> Result<(), Unavailable> {
        if transaction.read_to == 0 {
            transaction.read_to = self.beginning(&event.transaction_id).await?;
        }
        while transaction.read_to < event.sequence {
            let page = self.log.read(transaction.read_to, None, PAGE).await?;
            let last = page.events.last().map(|event| event.sequence);
            let ours = page.events.into_iter().filter(|e| e.transaction_id == event.transaction_id);
            transaction.events.extend(ours.map(|e| (e.sequence, e.data)));
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

    async fn beginning(&self, id: &str) -> Result<u64, Unavailable> {
        match Stamp::parse(id) {
            Ok(stamp) if stamp.to_string() == id => {
                let moment = stamp.plus_micros(-CLOCK_SKEW_MARGIN_MICROS);
                Ok(self.log.first_sequence_from(moment).await?.unwrap_or(1))
            }
            _ => Ok(1),
        }
    }
}

impl Known {
    /// What is known of a transaction, to be put back.
    fn take(&mut self, id: &str) -> Transaction {
        let Some(transaction) = self.by_id.remove(id) else { return Transaction::default() };
        self.by_age.retain(|known| known != id);
        self.bytes -= transaction.bytes();
        transaction
    }

    fn put(&mut self, id: String, transaction: Transaction) {
        self.take(&id);
        self.bytes += transaction.bytes();
        self.by_id.insert(id.clone(), transaction);
        self.by_age.push_back(id);
        while self.by_age.len() > MAX_TRANSACTIONS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.by_age.front().cloned() else { return };
            self.take(&oldest);
        }
    }
}

impl Transaction {
    fn bytes(&self) -> usize {
        self.events.iter().map(|(_, data)| data.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(bytes: usize) -> Transaction {
        Transaction { events: vec![(1, Bytes::from(vec![0; bytes]))], read_to: 2 }
    }

    #[test]
    fn what_was_asked_for_longest_ago_is_forgotten_first() {
        let mut known = Known::default();
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
