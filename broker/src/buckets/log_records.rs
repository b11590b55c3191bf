//! The bucket `LOG`: which names the log has had, what stood where in it, and its holes. Only dispatchers write it, by
//! compare-and-set.

use domain::log_epoch::LogRecord;
use domain::log_holes::LogHoles;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::buckets::entry;
use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::names::{HOLES, RECORD};

/// The bucket.
#[derive(Clone)]
pub struct LogRecords {
    broker: Broker,
}

/// What the bucket holds of the log's names and checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The revision to expect when writing: 0 where nothing was ever written.
    pub revision: u64,
    /// The record, if there is one.
    pub record: Option<LogRecord>,
}

/// What the bucket holds of the log's holes.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentHoles {
    /// The revision to expect when writing: 0 where nothing was ever written.
    pub revision: u64,
    /// The holes; `None`: nobody has looked yet.
    pub holes: Option<LogHoles>,
}

impl LogRecords {
    /// The bucket behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// What the bucket holds, asked of the leader; `None`: there is no such bucket, and the log has no names. A record that cannot
    /// be read is none: the next look at the log makes it anew, and lanes then find by their newest events what they share with it.
    pub async fn get(&self) -> Result<Option<Current>, Unavailable> {
        let read = self.read(RECORD, "reading what is recorded of the log").await?;
        Ok(read.map(|(revision, record)| Current { revision, record }))
    }

    /// Writes the record, if the key is still at the revision that was read. Answers the new one; `None`: somebody else has
    /// written it.
    pub async fn put(&self, record: &LogRecord, revision: u64) -> Result<Option<u64>, Unavailable> {
        self.write(RECORD, record, revision, "writing what is recorded of the log").await
    }

    /// What is recorded of the log's holes, asked of the leader; `None`: there is no such bucket.
    pub async fn holes(&self) -> Result<Option<CurrentHoles>, Unavailable> {
        let read = self.read(HOLES, "reading what is recorded of the log's holes").await?;
        Ok(read.map(|(revision, holes)| CurrentHoles { revision, holes }))
    }

    /// Writes them, as [`LogRecords::put`] does.
    pub async fn put_holes(&self, holes: &LogHoles, revision: u64) -> Result<Option<u64>, Unavailable> {
        self.write(HOLES, holes, revision, "writing what is recorded of the log's holes").await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
        what: &'static str,
    ) -> Result<Option<(u64, Option<T>)>, Unavailable> {
        let objects = self.broker.objects()?;
        let Some(bucket) = &objects.log else { return Ok(None) };
        let (revision, value) = entry::read(&self.broker, bucket, key, what).await?;
        let record = value.map(|value| entry::parse(&value)).transpose().unwrap_or_else(|error| {
            tracing::error!(%error, revision, key, "log.record_unreadable");
            None
        });
        Ok(Some((revision, record)))
    }

    async fn write<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        revision: u64,
        what: &'static str,
    ) -> Result<Option<u64>, Unavailable> {
        let value = serde_json::to_vec(value).during(what)?;
        let objects = self.broker.objects()?;
        let Some(bucket) = &objects.log else { return Err(Unavailable::new(what, "there is no bucket LOG")) };
        entry::update(&self.broker, bucket, key, value.into(), revision, what).await
    }
}
