//! `mer serve`: the roles of one process, started, watched and stopped together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use broker::attempts::AttemptLog;
use broker::dead_letters::DeadLetters;
use broker::event_log::EventLog;
use broker::feed::Feeds;
use broker::group_commit::GroupCommit;
use broker::lanes::Lanes;
use broker::subscriptions::Subscriptions;
use broker::{Broker, Config};
use dispatcher::{Dispatcher, Guard, Pusher};
use domain::{SealingKeys, StampClock};
use receiver::Receiver;
use registrar::{Desk, Registrar};
use spans::{Exporter, Tracer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use web::problem;

use crate::auth::Access;
use crate::config::{Options, Role};
use crate::door::Door;
use crate::embedded_nats::EmbeddedNats;
use crate::metrics::Metrics;
use crate::tokens::Tokens;
use crate::{check, docs, hello, ops};

/// How long the connection to NATS may take to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a collector may take to take the last spans.
const EXPORT_DEADLINE: Duration = Duration::from_secs(2);

/// Runs the roles until SIGINT or SIGTERM.
pub(crate) async fn serve(options: Options) -> anyhow::Result<()> {
    let secret_keys = options.secret_keys().context("reading MER_SECRET_KEY")?;
    options.events.check(options.duplicate_window_secs)?;
    let tokens = options.tokens_file.as_deref().map(Tokens::read).transpose()?.map(Arc::new);
    let exporter = options.collector.exporter()?;
    let tracer = exporter.as_ref().map(Exporter::tracer).unwrap_or_default();
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.with_context(|| {
        format!("listening on {}: choose another address with MER_LISTEN or --listen", options.listen)
    })?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(cancel_on_signal(stop.clone())?);

    // What stops first is told first: roles, then the connection, then the server that they all use.
    let nats_end = CancellationToken::new();
    let embedded = async {
        match (&options.nats_url, options.needs_nats()) {
            (None, true) => EmbeddedNats::start(&options.nats_server, &options.data_dir).await.map(Some),
            _ => Ok(None),
        }
    };
    // HTTP is served from the start: whoever asks while nats-server reads its files is told to come back.
    let mut http = JoinSet::new();
    let http_end = CancellationToken::new();
    let (metrics, turned_away) = Metrics::new();
    let access = Access { tokens: tokens.clone(), turned_away };
    let door = Door::new(access, options.max_requests);
    let answer = {
        let door = door.clone();
        move |request| door.clone().answer(request)
    };
    http.spawn(web::serve(listener, answer, http_end.clone(), options.shutdown_grace()));
    let _end_http = http_end.clone().drop_guard();
    tracing::info!(%address, roles = ?options.roles, version = env!("CARGO_PKG_VERSION"), "mer.listening");
    match &tokens {
        Some(tokens) => tracing::info!(tokens = tokens.len(), "mer.tokens_read"),
        None if options.takes_requests() && !address.ip().to_canonical().is_loopback() => tracing::warn!(
            %address,
            "mer.open_to_everybody: whoever reaches this address may do everything: name tokens with MER_TOKENS_FILE"
        ),
        None => {}
    }

    let embedded = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        embedded = embedded => embedded?,
    };
    let nats_url = options.nats_url.clone().or_else(|| embedded.as_ref().map(EmbeddedNats::url));
    let keep_nats = async {
        if let Some(embedded) = embedded {
            embedded.keep(nats_end.clone()).await;
        }
    };
    let roles_then_nats = async {
        let front = Front { door: &door, metrics, tracer, tasks: http, end: http_end };
        let result = run_roles(&options, secret_keys, nats_url, front, &stop).await;
        nats_end.cancel();
        result
    };
    // Both on this task: the embedded nats-server has to be started by a thread that lives as long as mer.
    let ((), result) = tokio::join!(keep_nats, Box::pin(roles_then_nats));
    if let Some(exporter) = exporter {
        exporter.end(EXPORT_DEADLINE).await;
    }
    tracing::info!("mer.stopped");
    result
}

/// What serves HTTP before the roles are there, and what they are given.
struct Front<'a> {
    door: &'a Door,
    metrics: Metrics,
    tracer: Tracer,
    tasks: JoinSet<()>,
    end: CancellationToken,
}

async fn connect(options: &Options, url: String) -> anyhow::Result<Broker> {
    if options.nats_url.is_none() {
        tracing::info!(url, data = %options.data_dir.display(), "nats_server.embedded");
    }
    Ok(Broker::connect(broker_config(options, url)).await?)
}

/// How NATS is reached, and what is made there.
pub(crate) fn broker_config(options: &Options, url: String) -> Config {
    let names: Vec<String> = options.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
    Config {
        url,
        credentials: options.nats.credentials(),
        tls: options.nats.tls(),
        name: format!("mer {} ({})", env!("CARGO_PKG_VERSION"), names.join(", ")),
        replicas: options.replicas,
        duplicate_window: Duration::from_secs(options.duplicate_window_secs),
        limits: options.events.limits(),
    }
}

/// Runs until told to stop, or until a role ends by itself, which none should.
async fn run_roles(
    options: &Options,
    secret_keys: Option<SealingKeys>,
    nats_url: Option<String>,
    front: Front<'_>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Front { door, mut metrics, tracer, tasks: mut roles, end: roles_end } = front;
    if let (true, Some(url)) = (options.check, &nats_url) {
        tokio::select! {
            () = stop.cancelled() => {}
            checked = check::at_start(options, url) => checked?,
        }
    }
    let broker = match nats_url {
        Some(url) => Some(connect(options, url).await?),
        None => None,
    };
    let (mut keeper, keeper_end) = (JoinSet::new(), CancellationToken::new());
    if let Some(broker) = broker.clone() {
        broker::metrics::register(metrics.registry(), &broker);
        let end = keeper_end.clone();
        keeper.spawn(async move { broker.keep(end).await });
    }
    if let (true, Some(broker)) = (options.has(Role::Dispatcher), &broker) {
        let guard = Guard::new(options.egress.into(), broker.addresses().iter().cloned());
        let pusher = Pusher::new(options.delivery_timeout(), guard).context("making the HTTP client")?;
        let dispatcher = Dispatcher {
            broker: broker.clone(),
            pusher,
            secret_keys: secret_keys.clone(),
            max_deliveries: options.max_deliveries,
            grace: options.shutdown_grace(),
            lease: Duration::from_secs(options.lease_secs),
            metrics: dispatcher::Metrics::register(metrics.registry()),
            tracer: tracer.clone(),
        };
        roles.spawn(dispatcher::run(dispatcher, roles_end.clone()));
    }
    door.open(router(options, secret_keys.as_ref(), broker.as_ref(), (metrics, tracer), &roles_end));

    let ended_early = tokio::select! {
        () = stop.cancelled() => None,
        ended = roles.join_next() => ended,
    };
    roles_end.cancel();
    while roles.join_next().await.is_some() {}
    if let Some(broker) = broker {
        // The last acknowledgements are on their way.
        let _ = tokio::time::timeout(CLOSE_DEADLINE, broker.close()).await;
    }
    keeper_end.cancel();
    while keeper.join_next().await.is_some() {}
    match ended_early {
        None => Ok(()),
        Some(Ok(())) => anyhow::bail!("a role ended by itself"),
        Some(Err(error)) => Err(error).context("a role died"),
    }
}

fn router(
    options: &Options,
    secret_keys: Option<&SealingKeys>,
    broker: Option<&Broker>,
    (mut metrics, tracer): (Metrics, Tracer),
    shutdown: &CancellationToken,
) -> Router {
    let mut router = ops::router(broker.cloned());
    if let (true, Some(broker)) = (options.has(Role::Receiver), broker) {
        let log = EventLog::new(broker.clone());
        router = router.merge(receiver::router(Receiver {
            group_commit: GroupCommit::start(log.clone()),
            log,
            max_body_bytes: options.max_body_bytes,
            clock: StampClock::default(),
            metrics: receiver::Metrics::register(metrics.registry()),
            tracer,
            shutdown: shutdown.clone(),
        }));
    }
    if let (true, Some(broker)) = (options.has(Role::Registrar), broker) {
        router = router.merge(registrar::router(Registrar {
            log: EventLog::new(broker.clone()),
            desk: Desk::new(Subscriptions::new(broker.clone())),
            lanes: Lanes::new(broker.clone()),
            feeds: Feeds::new(broker.clone()),
            attempts: AttemptLog::new(broker.clone()),
            dead_letters: DeadLetters::new(broker.clone()),
            secret_keys: secret_keys.cloned(),
            max_body_bytes: options.max_body_bytes,
            metrics: registrar::Metrics::register(metrics.registry()),
        }));
    }
    if options.has(Role::Hello) {
        router = router.merge(hello::router());
    }
    docs::documented(router.merge(metrics.router()), options.tokens_file.is_some())
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
}

/// A task that tells mer to stop when it is sent SIGINT or SIGTERM.
fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let signal = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal, "mer.stopping");
        stop.cancel();
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth;
    use crate::config::{Cli, Command};
    use axum::body::Body;
    use axum::extract::Request;
    use clap::Parser;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    /// The description of all roles; no NATS is needed for that.
    async fn description(arguments: &[&str]) -> Value {
        let roles = ["mer", "serve", "--roles", "receiver,registrar,dispatcher,hello"];
        let Command::Serve(options) = Cli::parse_from(roles.iter().chain(arguments)).command else {
            panic!("another command")
        };
        let broker = connect(&options, "nats://127.0.0.1:9".to_owned()).await.unwrap();
        let router =
            router(&options, None, Some(&broker), (Metrics::new().0, Tracer::off()), &CancellationToken::new());
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
                    assert_ne!(scope, Some(crate::tokens::Scope::Admin), "{method} {path} is not known to auth");
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
