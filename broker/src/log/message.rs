//! An event as a message of the stream.

use async_nats::HeaderMap;
use bytes::Bytes;
use domain::{Event, Stamp};

use crate::names::EVENTS;

/// A moment out of nanoseconds since 1970.
pub(crate) fn stamp_of(nanos: i128) -> Stamp {
    Stamp::from_micros(i64::try_from(nanos / 1000).unwrap_or(i64::MAX))
}

/// An event of the domain out of a message of `EVENTS`.
pub(crate) fn event_of(
    subject: &str,
    sequence: u64,
    stored_at: Stamp,
    headers: Option<&HeaderMap>,
    data: Bytes,
) -> Option<Event> {
    let pairs = headers.into_iter().flat_map(HeaderMap::iter).filter_map(|(name, values)| {
        let value = values.first()?;
        Some((name.as_ref(), value.as_str()))
    });
    Event::from_message(EVENTS, subject, sequence, stored_at, pairs, data)
}
