//! An entry of a bucket: reading it from the stream's leader, parsing its value, and removing it.
//!
//! Any replica may answer a bucket's ordinary read, with the value of a moment ago. A caller that acts on what it wrote
//! itself, or on what the process before it wrote, must ask the leader.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::kv::{PurgeErrorKind, Store, UpdateErrorKind};
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::connection::{Broker, RECONNECT_PATIENCE};
use crate::error::{During, Unavailable};

/// How long it is marked that a key was removed: longer than a dispatcher follows a bucket without listing it anew.
const MARKERS_LAST: Duration = Duration::from_secs(3600);

/// The headers by which a bucket marks a key as deleted, and the server one that has expired.
const MARKERS: [&str; 2] = ["KV-Operation", "Nats-Marker-Reason"];

/// A value that is not what mer writes. Neither the value nor serde's message is shown: both may hold a URL or a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not what mer writes (line {line}, column {column}): write it anew, or remove it")]
pub(crate) struct Unreadable {
    line: usize,
    column: usize,
}

/// Parses a value.
pub(crate) fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(value).map_err(|error| Unreadable { line: error.line(), column: error.column() })
}

/// Whether a message says that its key holds nothing.
pub(crate) fn is_marker(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| MARKERS.iter().any(|name| headers.get(*name).is_some()))
}

/// Reads a key: its revision (0 where it has never been written), and its value, if it has one now. Where the connection is lost
/// meanwhile, it is read once more on the next one.
pub(crate) async fn read(
    broker: &Broker,
    bucket: &Store,
    key: &str,
    what: &'static str,
) -> Result<(u64, Option<Bytes>), Unavailable> {
    let read = async || match bucket.stream.get_last_raw_message_by_subject(&format!("{}{key}", bucket.prefix)).await {
        Ok(message) => {
            let is_gone = is_marker(Some(&message.headers));
            Ok((message.sequence, (!is_gone).then_some(message.payload)))
        }
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok((0, None)),
        Err(error) => Err(error).during(what),
    };
    let link = *broker.link().borrow();
    let first = broker.while_connected(what, read()).await;
    if first.is_ok() || !link.is_up || *broker.link().borrow() == link {
        return first;
    }
    broker.connected_anew_by(link, Instant::now() + RECONNECT_PATIENCE).await;
    broker.while_connected(what, read()).await
}

/// Writes a key that is at a revision (0: it has never been written). Answers the new revision; `None`: the key was at another.
pub(crate) async fn update(
    broker: &Broker,
    bucket: &Store,
    key: &str,
    value: Bytes,
    revision: u64,
    what: &'static str,
) -> Result<Option<u64>, Unavailable> {
    let update = async {
        match bucket.update(key, value, revision).await {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(error) => Err(error).during(what),
        }
    };
    broker.while_connected(what, update).await
}

/// Removes a key that is at a revision. What marks it as removed goes after a while, where the bucket lets messages expire.
/// Answers whether it was at that revision.
pub(crate) async fn remove(
    broker: &Broker,
    bucket: &Store,
    key: &str,
    revision: u64,
    what: &'static str,
) -> Result<bool, Unavailable> {
    let remove = async {
        let removed = if bucket.stream.cached_info().config.allow_message_ttl {
            bucket.purge_expect_revision_with_ttl(key, revision, MARKERS_LAST).await
        } else {
            bucket.purge_expect_revision(key, Some(revision)).await
        };
        match removed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == PurgeErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(error).during(what),
        }
    };
    broker.while_connected(what, remove).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Subscription;

    #[test]
    fn what_is_wrong_with_a_value_is_told_without_it() {
        for value in [
            r#"{"url": "canary", "entries": {}}"#,
            r#"{"url": "http://h/", "entries": "canary"}"#,
            r#"{"url": "http://h/", "entries": {}, "secrets": ["canary"]}"#,
            r#"{"url": "http://h/", "entries": {}, "delivery": {"mode": "canary"}}"#,
            "canary",
        ] {
            let error = parse::<Subscription>(value.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        assert!(parse::<Subscription>(br#"{"url": "http://h/", "entries": {}}"#).is_ok());
    }
}
