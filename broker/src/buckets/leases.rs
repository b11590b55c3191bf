//! The bucket `LEASES`: which dispatchers live, and which of them works on which shard. Only dispatchers write it (but
//! for the probe of each process, see `connection::probe`), and every write names the revision that it replaces.

use std::pin::pin;
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::{Either, select, try_join_all};
use tokio::time::{Instant, sleep, timeout};

use crate::buckets::entry;
use crate::connection::Broker;
use crate::connection::direct_get::{self, End, PageRequest};
use crate::error::{During, Unavailable};
use crate::names::LEASES;

/// The stream that the bucket is.
const STREAM: &str = "KV_LEASES";
const EXPECTED_REVISION: &str = "Nats-Expected-Last-Subject-Sequence";
const TTL: &str = "Nats-TTL";
const OPERATION: &str = "KV-Operation";
/// How long writing or reading a key may take. A lease must not end while a server that has died is waited for.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long any replica may take to give all keys before the leader is asked, too.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many keys are read at a time.
const PAGE: usize = 1000;

/// A key with its revision and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: String,
    /// What to expect when replacing it.
    pub revision: u64,
    /// What it holds; `None`: it was removed, or has expired.
    pub value: Option<Bytes>,
}

/// Why a key was not written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else has written it since it was read, or it has expired.
    #[error("it was changed by somebody else, or has expired")]
    Conflict,
    /// JetStream does not answer as it should.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The bucket.
#[derive(Clone)]
pub struct Leases {
    broker: Broker,
}

impl Leases {
    /// The bucket behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// Every key that has a value, or had one. Any replica may answer, with the values of a moment ago; where none does, the leader.
    pub async fn all(&self) -> Result<Vec<Record>, Unavailable> {
        let any = async { timeout(DEADLINE, self.all_from_any()).await.during("reading the leases")? };
        let leader = async {
            sleep(PATIENCE).await;
            self.all_from_leader().await
        };
        match select(pin!(any), pin!(leader)).await {
            Either::Left((Ok(records), _)) | Either::Right((Ok(records), _)) => Ok(records),
            // A replica that hangs is asked again and again, until the others have noticed.
            Either::Left((Err(_), leader)) => leader.await,
            Either::Right((Err(_), any)) => any.await,
        }
    }

    /// The same by the leader, which is asked for which keys there are, and then for all of them at once: it refuses to give
    /// several in one answer.
    pub async fn all_from_leader(&self) -> Result<Vec<Record>, Unavailable> {
        const WHAT: &str = "reading the leases from the leader";
        let objects = self.broker.objects()?;
        let bucket = &objects.leases;
        let subjects = bucket.stream.info_with_subjects(format!("{}>", bucket.prefix));
        let subjects = timeout(DEADLINE, async { subjects.await.during(WHAT)?.try_collect().await.during(WHAT) });
        let subjects: Vec<(String, usize)> = subjects.await.during(WHAT)??;
        let keys = subjects.iter().filter_map(|(subject, _)| subject.strip_prefix(bucket.prefix.as_str()));
        let reads = keys.map(async |key| {
            let (revision, value) = entry::read(&self.broker, bucket, key, WHAT).await?;
            Ok(Record { key: key.to_owned(), revision, value })
        });
        timeout(DEADLINE, try_join_all(reads)).await.during(WHAT)?
    }

    async fn all_from_any(&self) -> Result<Vec<Record>, Unavailable> {
        let (mut records, mut from) = (Vec::new(), 1);
        loop {
            let request = PageRequest { stream: STREAM, from, subject: None, limit: PAGE };
            let end = direct_get::read(&self.broker, &request, "reading the leases", |found| {
                let Message { headers, payload, .. } = found.message;
                records.extend(record(&found.subject, found.sequence, headers.as_ref(), payload));
            });
            match end.await? {
                End::OfLog => return Ok(records),
                End::Before(next) => from = next,
            }
        }
    }

    /// Reads a key from the leader: its revision (0 where it has never been written), and its value.
    pub async fn get(&self, key: &str) -> Result<(u64, Option<Bytes>), Unavailable> {
        const WHAT: &str = "reading a lease";
        let objects = self.broker.objects()?;
        timeout(DEADLINE, entry::read(&self.broker, &objects.leases, key, WHAT)).await.during(WHAT)?
    }

    /// Writes a key that is at a revision, to last for `ttl` (for ever, without one). Answers the new revision.
    pub async fn put(&self, key: &str, value: Bytes, revision: u64, ttl: Option<Duration>) -> Result<u64, LeaseError> {
        let mut headers = HeaderMap::new();
        if let Some(ttl) = ttl {
            headers.insert(TTL, ttl.as_secs().max(1).to_string());
        }
        self.publish(key, headers, value, revision).await
    }

    /// Removes a key that is at a revision.
    pub async fn remove(&self, key: &str, revision: u64) -> Result<(), LeaseError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "DEL");
        self.publish(key, headers, Bytes::new(), revision).await.map(drop)
    }

    async fn publish(&self, key: &str, mut headers: HeaderMap, value: Bytes, revision: u64) -> Result<u64, LeaseError> {
        const WHAT: &str = "writing a lease";
        let began = Instant::now();
        headers.insert(EXPECTED_REVISION, revision.to_string());
        let subject = format!("$KV.{LEASES}.{key}");
        match self.broker.publish_while_connected(STREAM, subject, headers, value, began + DEADLINE).await {
            Ok(stored) => Ok(stored.sequence),
            Err(error) if error.is_wrong_last() => Err(LeaseError::Conflict),
            Err(error) => {
                self.broker.note_missed(began, &error);
                Ok(Err(error).during(WHAT)?)
            }
        }
    }
}

/// A key out of a message of the bucket's stream.
fn record(subject: &str, revision: u64, headers: Option<&HeaderMap>, value: Bytes) -> Option<Record> {
    let key = subject.strip_prefix("$KV.")?.strip_prefix(LEASES)?.strip_prefix('.')?.to_owned();
    Some(Record { key, revision, value: (!entry::is_marker(headers)).then_some(value) })
}
