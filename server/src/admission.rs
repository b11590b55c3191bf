//! Admission: refuses a request without a valid token, or beyond the limit of requests under way, and passes every other
//! one to the routes.
//!
//! - [`auth`]: which scope a request needs, and whether its token has it; [`tokens`]: the tokens file.
//! - [`overload`]: the limit of requests under way.
//! - [`turned_away`]: counters of refused requests.
//!
//! One function, and no layers of a router: they made a tenth of what accepting an event takes.

pub(crate) mod auth;
mod overload;
pub(crate) mod tokens;
pub(crate) mod turned_away;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;

use auth::Access;
use overload::Room;

/// Stands in front of all routes. It has other routes until the roles have started.
pub(crate) struct Admission {
    access: Access,
    room: Room,
    while_starting: Router,
    started: OnceLock<Router>,
}

impl Admission {
    pub(crate) fn new(access: Access, max_requests: usize, while_starting: Router) -> Arc<Self> {
        let room = Room::new(max_requests, access.turned_away.clone());
        Arc::new(Self { access, room, while_starting, started: OnceLock::new() })
    }

    /// From now on requests go to these routes.
    pub(crate) fn open(&self, router: Router) {
        // Called once: there is nothing to replace.
        let _ = self.started.set(router);
    }

    /// Answers a request, if it may be made, as long as there is room. A request that may not be made takes no room.
    pub(crate) async fn answer(self: Arc<Self>, request: Request) -> Response {
        if let Err(refusal) = self.access.check(&request) {
            return refusal.into_response();
        }
        let _place = match self.room.enter(request.uri().path()) {
            Ok(place) => place,
            Err(full) => return full.into_response(),
        };
        let router = self.started.get().unwrap_or(&self.while_starting).clone();
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
