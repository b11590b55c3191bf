//! How many requests may be under way: those beyond are told to come back, and do not wait in a queue.

use tokio::sync::{Semaphore, SemaphorePermit};
use web::Problem;

use super::turned_away::TurnedAway;

/// When a refused client should ask again, in seconds.
const RETRY_AFTER_SECS: u32 = 1;

/// Room for so many requests. A request is under way until its answer begins: what is streamed then costs little, and
/// there are no more streams than connections.
pub(crate) struct Room {
    most: usize,
    left: Semaphore,
    turned_away: TurnedAway,
}

impl Room {
    pub(crate) fn new(most: usize, turned_away: TurnedAway) -> Self {
        Self { most, left: Semaphore::new(most.min(Semaphore::MAX_PERMITS)), turned_away }
    }

    /// Admits a request for this path if there is room for it, and returns its place. Health checks and `/metrics` are always
    /// admitted and take no place: a busy mer is not ill, and its metrics show that it is busy.
    pub(crate) fn enter(&self, path: &str) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        if is_about_this_process(path) {
            return Ok(None);
        }
        let place = self.left.try_acquire().map(Some);
        place.map_err(|_| {
            self.turned_away.overload.inc();
            tracing::debug!(most = self.most, "http.overloaded");
            let detail = format!(
                "more than {} requests are under way. Nothing was stored, and it is safe to send the request again",
                self.most
            );
            Problem::too_many(detail, RETRY_AFTER_SECS)
        })
    }
}

fn is_about_this_process(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}
