//! The bucket `LOG`: which names the log has had, and what stood where in it. Only dispatchers write it, by compare-and-set.

use domain::log_epoch::LogRecord;

use crate::buckets::entry;
use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::names::RECORD;

/// The bucket.
#[derive(Clone)]
pub struct LogRecords {
    broker: Broker,
}

/// What the bucket holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The revision to expect when writing: 0 where nothing was ever written.
    pub revision: u64,
    /// The record, if there is one.
    pub record: Option<LogRecord>,
}

impl LogRecords {
    /// The bucket behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// What the bucket holds, asked of the leader; `None`: there is no such bucket, and the log has no names. A record that cannot
    /// be read is none: the next look at the log makes it anew, and lanes then find by their newest events what they share with it.
    pub async fn get(&self) -> Result<Option<Current>, Unavailable> {
        const WHAT: &str = "reading what is recorded of the log";
        let objects = self.broker.objects()?;
        let Some(bucket) = &objects.log else { return Ok(None) };
        let (revision, value) = entry::read(&self.broker, bucket, RECORD, WHAT).await?;
        let record = value.map(|value| entry::parse(&value)).transpose().unwrap_or_else(|error| {
            tracing::error!(%error, revision, "log.record_unreadable");
            None
        });
        Ok(Some(Current { revision, record }))
    }

    /// Writes the record, if the key is still at the revision that was read. Answers the new one; `None`: somebody else has
    /// written it.
    pub async fn put(&self, record: &LogRecord, revision: u64) -> Result<Option<u64>, Unavailable> {
        const WHAT: &str = "writing what is recorded of the log";
        let value = serde_json::to_vec(record).during(WHAT)?;
        let objects = self.broker.objects()?;
        let Some(bucket) = &objects.log else { return Err(Unavailable::new(WHAT, "there is no bucket LOG")) };
        entry::update(&self.broker, bucket, RECORD, value.into(), revision, WHAT).await
    }
}
