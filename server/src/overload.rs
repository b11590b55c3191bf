//! How many requests may be under way: those beyond are told to come back, and do not wait in a queue.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use web::Problem;

use crate::metrics::TurnedAway;

/// How long whoever is turned away should wait, in seconds.
const RETRY_AFTER_SECS: u32 = 1;

/// Room for so many requests. A request is under way until its answer begins: what is streamed then costs little, and
/// there are no more streams than connections.
pub(crate) struct Room {
    most: usize,
    left: Semaphore,
    turned_away: TurnedAway,
}

impl Room {
    pub(crate) fn new(most: usize, turned_away: TurnedAway) -> Arc<Self> {
        Arc::new(Self { most, left: Semaphore::new(most.min(Semaphore::MAX_PERMITS)), turned_away })
    }
}

/// Lets a request through if there is room for it. Health checks always are let through, as being busy is not being ill,
/// and whoever wants to see how busy it is.
pub(crate) async fn limit(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    if is_about_this_process(request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(_permit) = room.left.try_acquire() else {
        room.turned_away.overload.inc();
        tracing::debug!(most = room.most, "http.overloaded");
        let (head, body) = request.into_parts();
        web::body::discard(&head.headers, body).await;
        let detail = format!(
            "more than {} requests are under way. Nothing was stored, and it is safe to send the request again",
            room.most
        );
        return Problem::too_many(detail, RETRY_AFTER_SECS).into_response();
    };
    next.run(request).await
}

fn is_about_this_process(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}
