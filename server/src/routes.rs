//! The routes: those of the roles, and those of the process itself.
//!
//! - [`ops`]: `/healthz` and `/readyz`; [`metrics`]: `/metrics`; [`docs`]: `/openapi.json` and `/docs`.
//!   [`webhooks`] is the part of it about what targets get.
//! - [`hello`]: the sample listener.

mod docs;
mod hello;
pub(crate) mod metrics;
pub(crate) mod ops;
mod webhooks;

use axum::Router;
use broker::Broker;
use broker::attempts::AttemptLog;
use broker::dead_letters::DeadLetters;
use broker::event_log::EventLog;
use broker::feed::Feeds;
use broker::group_commit::GroupCommit;
use broker::lanes::Lanes;
use broker::log_records::LogRecords;
use broker::subscriptions::Subscriptions;
use domain::{SealingKeys, StampClock};
use receiver::Receiver;
use registrar::{Registrar, SubscriptionStore};
use spans::Tracer;
use tokio_util::sync::CancellationToken;
use web::problem;

use crate::settings::{Role, Settings};
use metrics::Metrics;

/// The routes of the roles that run here, with their description.
pub(crate) fn router(
    settings: &Settings,
    secret_keys: Option<&SealingKeys>,
    broker: Option<&Broker>,
    (mut metrics, tracer): (Metrics, Tracer),
    shutdown: &CancellationToken,
) -> Router {
    let mut router = ops::router(broker.cloned());
    if let (true, Some(broker)) = (settings.has(Role::Receiver), broker) {
        let log = EventLog::new(broker.clone());
        router = router.merge(receiver::router(Receiver {
            group_commit: GroupCommit::start(log.clone()),
            log,
            records: LogRecords::new(broker.clone()),
            max_body_bytes: settings.max_body_bytes,
            clock: StampClock::default(),
            metrics: receiver::Metrics::register(metrics.registry()),
            tracer,
            streams: receiver::Streams::default(),
            shutdown: shutdown.clone(),
        }));
    }
    if let (true, Some(broker)) = (settings.has(Role::Registrar), broker) {
        router = router.merge(registrar::router(Registrar {
            log: EventLog::new(broker.clone()),
            store: SubscriptionStore::new(Subscriptions::new(broker.clone())),
            lanes: Lanes::new(broker.clone()),
            feeds: Feeds::new(broker.clone()),
            attempts: AttemptLog::new(broker.clone()),
            dead_letters: DeadLetters::new(broker.clone()),
            secret_keys: secret_keys.cloned(),
            max_body_bytes: settings.max_body_bytes,
            metrics: registrar::Metrics::register(metrics.registry()),
        }));
    }
    if settings.has(Role::Hello) {
        router = router.merge(hello::router());
    }
    docs::documented(router.merge(metrics.router()), settings.tokens_file.is_some())
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::auth;
    use crate::admission::tokens::Scope;
    use axum::body::Body;
    use axum::extract::Request;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    /// The routes that are for `admin`, and were not forgotten.
    const FOR_ADMINS: [&str; 1] = ["/v1/log/epochs"];

    /// The description of all roles; no NATS is needed for that.
    async fn description(arguments: &[&str]) -> Value {
        let roles: &[&str] = &["--roles", "receiver,registrar,dispatcher,hello"];
        let settings = Settings::of_arguments(&[roles, arguments].concat()).unwrap();
        let broker = Broker::connect(settings.broker_config("nats://127.0.0.1:9".to_owned())).await.unwrap();
        let router = router(&settings, None, Some(&broker), (Metrics::new(), Tracer::off()), &CancellationToken::new());
        let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
        let body = router.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn every_described_route_has_its_scope_and_says_so() {
        for (arguments, is_optional) in [(&[] as &[_], true), (&["--tokens-file", "tokens"], false)] {
            let description = description(arguments).await;
            assert_eq!(description["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
            let mut counted = [0, 0];
            for (path, operations) in description["paths"].as_object().unwrap() {
                for (method, operation) in operations.as_object().unwrap() {
                    let scope = auth::needed(&method.to_uppercase().parse().unwrap(), path);
                    let is_known = scope != Some(Scope::Admin) || FOR_ADMINS.contains(&path.as_str());
                    assert!(is_known, "{method} {path} is not known to auth");
                    counted[usize::from(scope.is_some())] += 1;
                    let declares = |status: &str| operation["responses"].get(status).is_some();
                    for status in ["401", "403"] {
                        assert_eq!(declares(status), scope.is_some(), "{method} {path} {status}");
                    }
                    assert_eq!(
                        declares("429"),
                        !["/healthz", "/readyz", "/metrics"].contains(&path.as_str()),
                        "{method} {path}"
                    );
                    let expected = match scope {
                        None => Value::Null,
                        Some(scope) if is_optional => json!([{}, {"bearer": [scope.name()]}]),
                        Some(scope) => json!([{"bearer": [scope.name()]}]),
                    };
                    assert_eq!(operation["security"], expected, "{method} {path}");
                }
            }
            assert!(counted[0] == 3 && counted[1] > 15, "{counted:?}");
        }
    }
}
