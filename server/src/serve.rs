//! `mer serve`: the roles of one process, started, watched and stopped together.

use anyhow::Context;
use axum::Router;
use broker::event_log::EventLog;
use broker::subscriptions::Subscriptions;
use broker::{Broker, Config};
use dispatcher::{Dispatcher, Pusher};
use domain::StampClock;
use receiver::Receiver;
use registrar::{Desk, Registrar};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use web::problem;

use crate::config::{Options, Role};
use crate::embedded_nats::EmbeddedNats;
use crate::{hello, ops};
use std::time::Duration;

/// Runs the roles until SIGINT or SIGTERM.
pub(crate) async fn serve(options: Options) -> anyhow::Result<()> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("tls.provider_already_installed");
    }
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.with_context(|| {
        format!("listening on {}: choose another address with MER_LISTEN or --listen", options.listen)
    })?;
    let stop = stop_signal()?;

    // What stops first is told first: roles, then the connection, then the server that they all use.
    let (roles_end, broker_end, nats_end) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let embedded = match (&options.nats_url, options.needs_nats()) {
        (None, true) => Some(EmbeddedNats::start(&options.nats_server, &options.data_dir).await?),
        _ => None,
    };
    let nats_url = options.nats_url.clone().or_else(|| embedded.as_ref().map(EmbeddedNats::url));
    let keep_nats = async {
        if let Some(embedded) = embedded {
            embedded.keep(nats_end.clone()).await;
        }
    };

    let roles = async {
        let broker = match nats_url {
            Some(url) => Some(connect(&options, url).await?),
            None => None,
        };
        let mut tasks = JoinSet::new();
        if let Some(broker) = broker.clone() {
            let broker_end = broker_end.clone();
            tasks.spawn(async move { broker.keep(broker_end).await });
        }
        run_roles(&options, broker.as_ref(), listener, roles_end.clone(), stop).await?;
        if let Some(broker) = broker {
            // The last acknowledgements are on their way.
            let _ = tokio::time::timeout(Duration::from_secs(2), broker.close()).await;
        }
        broker_end.cancel();
        while tasks.join_next().await.is_some() {}
        anyhow::Ok(())
    };
    let roles_then_nats = async {
        let result = roles.await;
        nats_end.cancel();
        result
    };
    // Both on this task: the embedded nats-server has to be started by a thread that lives as long as mer.
    let ((), result) = tokio::join!(keep_nats, Box::pin(roles_then_nats));
    tracing::info!("mer.stopped");
    result
}

async fn connect(options: &Options, url: String) -> anyhow::Result<Broker> {
    if options.nats_url.is_none() {
        tracing::info!(url, data = %options.data_dir.display(), "nats_server.embedded");
    }
    let names: Vec<String> = options.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
    let config = Config {
        url,
        name: format!("mer {} ({})", env!("CARGO_PKG_VERSION"), names.join(", ")),
        replicas: options.replicas,
        duplicate_window: Duration::from_secs(options.duplicate_window_secs),
    };
    Ok(Broker::connect(config).await?)
}

/// Runs until told to stop, or until a role ends by itself, which none should.
async fn run_roles(
    options: &Options,
    broker: Option<&Broker>,
    listener: TcpListener,
    end: CancellationToken,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    let mut roles: JoinSet<&'static str> = JoinSet::new();
    let address = listener.local_addr()?;
    let router = router(options, broker);
    let grace = options.shutdown_grace();
    let http_end = end.clone();
    roles.spawn(async move {
        web::serve(listener, router, http_end, grace).await;
        "http"
    });
    if let (true, Some(broker)) = (options.has(Role::Dispatcher), broker) {
        let pusher = Pusher::new(options.delivery_timeout()).context("making the HTTP client")?;
        let dispatcher = Dispatcher { broker: broker.clone(), pusher, grace };
        let end = end.clone();
        roles.spawn(async move {
            dispatcher::run(dispatcher, end).await;
            "dispatcher"
        });
    }
    tracing::info!(%address, roles = ?options.roles, version = env!("CARGO_PKG_VERSION"), "mer.listening");
    let ended_early = tokio::select! {
        signal = stop => {
            tracing::info!(signal, "mer.stopping");
            None
        }
        ended = roles.join_next() => ended,
    };
    end.cancel();
    while roles.join_next().await.is_some() {}
    match ended_early {
        None => Ok(()),
        Some(Ok(role)) => anyhow::bail!("the {role} ended by itself"),
        Some(Err(error)) => Err(error).context("a role died"),
    }
}

fn router(options: &Options, broker: Option<&Broker>) -> Router {
    let mut router = ops::router(broker.cloned());
    if let (true, Some(broker)) = (options.has(Role::Receiver), broker) {
        router = router.merge(receiver::router(Receiver {
            log: EventLog::new(broker.clone()),
            max_body_bytes: options.max_body_bytes,
            clock: StampClock::default(),
        }));
    }
    if let (true, Some(broker)) = (options.has(Role::Registrar), broker) {
        router = router.merge(registrar::router(Registrar {
            log: EventLog::new(broker.clone()),
            desk: Desk::new(Subscriptions::new(broker.clone())),
            max_body_bytes: options.max_body_bytes,
        }));
    }
    if options.has(Role::Hello) {
        router = router.merge(hello::router());
    }
    router.fallback(problem::not_found).method_not_allowed_fallback(problem::method_not_allowed)
}

/// Resolves with the name of the signal that tells mer to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}
