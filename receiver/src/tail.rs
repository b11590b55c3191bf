//! The tail of the log as server-sent events: where it begins, and what its client is told of that.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use broker::event_log::LogBounds;
use domain::Event;
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderName, HeaderValue};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use web::EventView;

use crate::scan::Scan;
use crate::streams::StreamPlace;

/// How often a tail looks for more.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often an idle tail says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Has nginx pass on what it gets, when it gets it.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a client is told before the first event. `EventSource` gives up on an answer that is not 200, so it is told in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Where it begins: behind this sequence. A client that is cut off before the first event goes on from there.
    Behind(u64),
    /// Nothing: it goes on behind the place that the client has named.
    AsKnown,
    /// It named a place beyond the log's end, so this is another log than it knows. It goes on behind the end.
    Reset { after: u64, log: LogBounds },
    /// Events behind the place that it named have been removed. It goes on with the first one that there is.
    Gap { after: u64, log: LogBounds },
}

/// What is told, and the sequence behind which the tail begins, where a client has named a place: in `Last-Event-ID`, or
/// (`is_new`) in a parameter.
pub(crate) fn opening(after: u64, is_new: bool, log: LogBounds) -> (Opening, u64) {
    // To ask for all that is there, a client says 0.
    let asks_for_all = is_new && after == 0;
    if after > log.last_sequence {
        (Opening::Reset { after, log }, log.last_sequence)
    } else if after + 1 < log.first_sequence && !asks_for_all {
        (Opening::Gap { after, log }, log.first_sequence - 1)
    } else if is_new {
        (Opening::Behind(after), after)
    } else {
        (Opening::AsKnown, after)
    }
}

impl Opening {
    fn frame(self) -> Frame {
        let told = |name: &str, id: u64, after: u64, log: LogBounds| {
            let (first, last) = (log.first_sequence, log.last_sequence);
            let data = json!({"after": after, "first_sequence": first, "last_sequence": last}).to_string();
            Frame::default().event(name).id(id.to_string()).data(data)
        };
        match self {
            Self::Behind(sequence) => Frame::default().id(sequence.to_string()),
            Self::AsKnown => Frame::default().comment("goes on"),
            Self::Reset { after, log } => told("reset", log.last_sequence, after, log),
            Self::Gap { after, log } => told("gap", log.first_sequence - 1, after, log),
        }
    }
}

/// Answers with the opening, then all events of a scan, and then every new one.
pub(crate) fn answer(opening: Opening, scan: Scan, shutdown: CancellationToken, place: StreamPlace) -> Response {
    let frames = stream::iter([Ok(opening.frame())]).chain(tail(scan, shutdown));
    let frames = frames.inspect(move |_| _ = &place);
    let answer = Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    ([(X_ACCEL_BUFFERING, HeaderValue::from_static("no"))], answer).into_response()
}

/// All events, and then every new one, until mer stops. A failure to read is bridged: the client's place is kept.
fn tail(scan: Scan, shutdown: CancellationToken) -> impl Stream<Item = Result<Frame, Infallible>> {
    let state = (scan, Vec::new().into_iter(), shutdown);
    stream::unfold(state, async |(mut scan, mut events, shutdown)| {
        loop {
            if let Some(event) = events.next() {
                let event: Event = event;
                let json = String::from_utf8(EventView::of(&event).to_json()).unwrap_or_default();
                let message = Frame::default().id(event.sequence.to_string()).data(json);
                return Some((Ok(message), (scan, events, shutdown)));
            }
            if shutdown.is_cancelled() {
                return None;
            }
            // A failure is bridged like an end that may be no end any more in a moment.
            scan.is_over = true;
            events = scan.read().await.unwrap_or_default().into_iter();
            if scan.is_over && events.len() == 0 {
                tokio::select! {
                    () = shutdown.cancelled() => return None,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_where_the_tail_begins_unless_it_knows() {
        let log =
            |first, last| LogBounds { first_sequence: first, first_stored_at: None, last_sequence: last, events: 0 };
        let cut = log(5, 9);
        for (after, is_new, log, expected) in [
            (0, false, log(1, 0), (Opening::AsKnown, 0)),
            (0, true, log(0, 0), (Opening::Behind(0), 0)),
            (3, false, log(1, 9), (Opening::AsKnown, 3)),
            (3, true, log(1, 9), (Opening::Behind(3), 3)),
            (9, false, cut, (Opening::AsKnown, 9)),
            (4, false, cut, (Opening::AsKnown, 4)),
            (3, false, cut, (Opening::Gap { after: 3, log: cut }, 4)),
            (0, false, cut, (Opening::Gap { after: 0, log: cut }, 4)),
            (0, true, cut, (Opening::Behind(0), 0)),
            (10, false, cut, (Opening::Reset { after: 10, log: cut }, 9)),
            (u64::MAX, true, cut, (Opening::Reset { after: u64::MAX, log: cut }, 9)),
        ] {
            assert_eq!(opening(after, is_new, log), expected, "{after} {is_new} {log:?}");
        }
    }
}
