//! The way in: answers from the first moment, and lets requests through once the roles are there.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::ServiceExt;
use web::Problem;

use crate::auth::{self, Access};
use crate::overload::Room;
use crate::{ops, overload};

/// How long whoever comes too early should wait, in seconds.
const RETRY_AFTER_SECS: u32 = 1;

const STARTING: &str = "mer is starting. Nothing was stored, and it is safe to send the request again";

/// Closed until it is opened, once.
#[derive(Default)]
pub(crate) struct Door(OnceLock<Router>);

impl Door {
    /// From now on requests go to these routes.
    pub(crate) fn open(&self, router: Router) {
        // Opened once: there is nothing to replace.
        let _ = self.0.set(router);
    }
}

/// `/healthz`, and whatever is behind the door, for those who may ask for it, as long as there is room. Who may not takes
/// no room.
pub(crate) fn router(door: Arc<Door>, access: Access, max_requests: usize) -> Router {
    let room = Room::new(max_requests, access.turned_away.clone());
    Router::new()
        .route("/healthz", get(ops::healthz))
        .fallback(pass)
        .method_not_allowed_fallback(web::problem::method_not_allowed)
        .with_state(door)
        .layer(from_fn_with_state(room, overload::limit))
        .layer(from_fn_with_state(access, auth::authorize))
}

async fn pass(State(door): State<Arc<Door>>, request: Request) -> Response {
    match door.0.get() {
        Some(router) => match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => Problem::unavailable(STARTING, RETRY_AFTER_SECS).into_response(),
    }
}
