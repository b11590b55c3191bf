//! How many answers are streamed at a time: each holds a connection for as long as its client likes, and health checks, metrics
//! and posts need some too.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use web::Problem;

/// The most at a time: half of the connections that one process takes.
const MOST: usize = 4096;
/// When one that was turned away is to come again, in seconds.
const RETRY_AFTER_SECS: u32 = 5;

/// The place of one that is streamed; given back when it is dropped.
pub(crate) type StreamPlace = OwnedSemaphorePermit;

/// Room for streamed answers.
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Streams {
    /// A place, or what a client is told where there is none.
    pub(crate) fn enter(&self) -> Result<StreamPlace, Problem> {
        let place = self.0.clone().try_acquire_owned();
        place.map_err(|_| {
            tracing::debug!(most = MOST, "http.too_many_streams");
            let detail =
                format!("{MOST} answers are being streamed, and no more are at a time: it is safe to ask again");
            Problem::unavailable(detail, RETRY_AFTER_SECS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use http::header::RETRY_AFTER;

    #[test]
    fn so_many_are_streamed_at_a_time_and_no_more() {
        let streams = Streams::default();
        let mut places: Vec<_> = (0..MOST).map(|_| streams.enter().unwrap()).collect();
        let answer = streams.enter().unwrap_err().into_response();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY_AFTER], "5");
        places.pop();
        assert!(streams.enter().is_ok());
    }
}
