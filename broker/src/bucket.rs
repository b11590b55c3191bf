//! Reading a key of a bucket from its stream's leader.
//!
//! A bucket's ordinary read may be answered by any replica, with what it was a moment ago. Who acts on what it wrote
//! itself, or on what the process before it wrote, asks the leader.

use async_nats::HeaderMap;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;

use crate::error::{During, Unavailable};

/// The headers by which a bucket marks a key as deleted, and the server one that has expired.
const MARKERS: [&str; 2] = ["KV-Operation", "Nats-Marker-Reason"];

/// Whether a message says that its key holds nothing.
pub(crate) fn is_marker(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| MARKERS.iter().any(|name| headers.get(*name).is_some()))
}

/// What stands under a key: its revision, 0 where there has never been anything, and its value, if there is one now.
pub(crate) async fn read(bucket: &Store, key: &str, what: &'static str) -> Result<(u64, Option<Bytes>), Unavailable> {
    match bucket.stream.get_last_raw_message_by_subject(&format!("{}{key}", bucket.prefix)).await {
        Ok(message) => {
            let is_gone = is_marker(Some(&message.headers));
            Ok((message.sequence, (!is_gone).then_some(message.payload)))
        }
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok((0, None)),
        Err(error) => Err(error).during(what),
    }
}
