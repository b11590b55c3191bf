//! The way in: turns away who may not ask or finds no room, and lets requests through to the roles once those are there.
//!
//! One function, and no layers of a router: they made a tenth of what accepting an event takes.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::ServiceExt;
use web::Problem;

use crate::auth::Access;
use crate::ops;
use crate::overload::Room;

/// How long whoever comes too early should wait, in seconds.
const RETRY_AFTER_SECS: u32 = 1;

const STARTING: &str = "mer is starting. Nothing was stored, and it is safe to send the request again";

/// Closed until it is opened, once.
pub(crate) struct Door {
    access: Access,
    room: Room,
    /// What answers as long as it is closed.
    closed: Router,
    open: OnceLock<Router>,
}

impl Door {
    pub(crate) fn new(access: Access, max_requests: usize) -> Arc<Self> {
        let room = Room::new(max_requests, access.turned_away.clone());
        let closed = Router::new().route("/healthz", get(ops::healthz)).fallback(starting);
        let closed = closed.method_not_allowed_fallback(web::problem::method_not_allowed);
        Arc::new(Self { access, room, closed, open: OnceLock::new() })
    }

    /// From now on requests go to these routes.
    pub(crate) fn open(&self, router: Router) {
        // Opened once: there is nothing to replace.
        let _ = self.open.set(router);
    }

    /// Answers a request, if it may be made, as long as there is room. Who may not make it takes no room.
    pub(crate) async fn answer(self: Arc<Self>, request: Request) -> Response {
        if let Err(refusal) = self.access.check(&request) {
            return turn_away(request, refusal).await;
        }
        let _place = match self.room.enter(request.uri().path()) {
            Ok(place) => place,
            Err(full) => return turn_away(request, full).await,
        };
        let router = self.open.get().unwrap_or(&self.closed).clone();
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

async fn turn_away(request: Request, why: impl IntoResponse) -> Response {
    let (head, body) = request.into_parts();
    web::body::discard(&head.headers, body).await;
    why.into_response()
}

async fn starting() -> Problem {
    Problem::unavailable(STARTING, RETRY_AFTER_SECS)
}
