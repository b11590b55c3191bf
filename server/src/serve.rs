//! `mer serve`: the roles of one process, started, watched and stopped together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use broker::{Broker, Storage};
use dispatcher::{Dispatcher, Guard, Pusher};
use domain::SealingKeys;
use spans::{Exporter, Tracer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::admission::auth::Access;
use crate::admission::tokens::Tokens;
use crate::admission::turned_away::TurnedAway;
use crate::commands::check;
use crate::embedded_nats::EmbeddedNats;
use crate::routes::metrics::Metrics;
use crate::routes::{self, ops};
use crate::settings::{Role, Settings};

/// How long the connection to NATS may take to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a collector may take to take the last spans.
const EXPORT_DEADLINE: Duration = Duration::from_secs(2);

/// Runs the roles until SIGINT or SIGTERM.
pub(crate) async fn serve(settings: Settings) -> anyhow::Result<()> {
    let secret_keys = settings.secret_keys().context("reading MER_SECRET_KEY")?;
    settings.events.check(settings.duplicate_window_secs)?;
    settings.nats.check(settings.nats_url.is_some())?;
    let tokens = settings.tokens_file.as_deref().map(Tokens::read).transpose()?.map(Arc::new);
    let exporter = settings.collector.exporter()?;
    let tracer = exporter.as_ref().map(Exporter::tracer).unwrap_or_default();
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener.with_context(|| {
        format!("listening on {}: choose another address with MER_LISTEN or --listen", settings.listen)
    })?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(cancel_on_signal(stop.clone())?);

    // What stops first is told first: roles, then the connection, then the server that they all use.
    let nats_end = CancellationToken::new();
    let storage = Storage::default();
    let embedded = start_embedded(&settings, storage.clone());
    // HTTP is served from the start: a client that asks while nats-server reads its files is told to come back.
    let mut http = JoinSet::new();
    let http_end = CancellationToken::new();
    let mut metrics = Metrics::new();
    let turned_away = TurnedAway::register(metrics.registry());
    let access = Access { tokens: tokens.clone(), turned_away };
    let admission = Admission::new(access, settings.max_requests, ops::while_starting(storage.clone()));
    let answer = {
        let admission = admission.clone();
        move |request| admission.clone().answer(request)
    };
    http.spawn(web::serve(listener, answer, http_end.clone(), settings.shutdown_grace()));
    let _end_http = http_end.clone().drop_guard();
    tracing::info!(%address, roles = ?settings.roles, version = env!("CARGO_PKG_VERSION"), "mer.listening");
    log_who_may_ask(tokens.as_deref(), &settings, address);

    let embedded = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        embedded = embedded => embedded?,
    };
    let nats_url = settings.nats_url.clone().or_else(|| embedded.as_ref().map(EmbeddedNats::url));
    let keep_nats = async {
        if let Some(embedded) = embedded {
            embedded.keep(nats_end.clone()).await;
        }
    };
    let roles_then_nats = async {
        let front =
            Front { admission: &admission, storage: storage.clone(), metrics, tracer, tasks: http, end: http_end };
        let result = run_roles(&settings, secret_keys, nats_url, front, &stop).await;
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

/// The nats-server of an installation that names none.
async fn start_embedded(settings: &Settings, storage: Storage) -> anyhow::Result<Option<EmbeddedNats>> {
    if settings.nats_url.is_some() || !settings.needs_nats() {
        return Ok(None);
    }
    let patience = Duration::from_secs(settings.nats_start_secs);
    EmbeddedNats::start(&settings.nats_server, &settings.data_dir, patience, storage).await.map(Some)
}

fn log_who_may_ask(tokens: Option<&Tokens>, settings: &Settings, address: SocketAddr) {
    match tokens {
        Some(tokens) => tracing::info!(tokens = tokens.len(), "mer.tokens_read"),
        None if settings.takes_requests() && !address.ip().to_canonical().is_loopback() => {
            tracing::warn!(%address, setting = "MER_TOKENS_FILE", "mer.open_to_everybody");
        }
        None => {}
    }
}

/// What serves HTTP before the roles are there, and what they are given.
struct Front<'a> {
    admission: &'a Admission,
    storage: Storage,
    metrics: Metrics,
    tracer: Tracer,
    tasks: JoinSet<()>,
    end: CancellationToken,
}

async fn connect(settings: &Settings, url: String, storage: Storage) -> anyhow::Result<Broker> {
    if settings.nats_url.is_none() {
        tracing::info!(url, data = %settings.data_dir.display(), "nats_server.embedded");
    }
    Ok(Broker::connect(broker::Config { storage, ..settings.broker_config(url) }).await?)
}

/// Runs until told to stop, or until a role ends by itself, which none should.
async fn run_roles(
    settings: &Settings,
    secret_keys: Option<SealingKeys>,
    nats_url: Option<String>,
    front: Front<'_>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Front { admission, storage, mut metrics, tracer, tasks: mut roles, end: roles_end } = front;
    if let (true, Some(url)) = (settings.check, &nats_url) {
        tokio::select! {
            () = stop.cancelled() => {}
            checked = check::at_start(settings, url) => checked?,
        }
    }
    let broker = match nats_url {
        Some(url) => Some(connect(settings, url, storage).await?),
        None => None,
    };
    let (mut keeper, keeper_end) = (JoinSet::new(), CancellationToken::new());
    if let Some(broker) = broker.clone() {
        broker::metrics::register(metrics.registry(), &broker);
        let end = keeper_end.clone();
        keeper.spawn(async move { broker.keep(end).await });
    }
    if let (true, Some(broker)) = (settings.has(Role::Dispatcher), &broker) {
        if settings.nats_url.is_none() {
            // Nobody else stores anything: what is stored before the log was looked at would be stored here.
            broker.log_gate().is_needed();
        }
        let guard = Guard::new(settings.egress.into(), broker.addresses().iter().cloned());
        let pusher = Pusher::new(settings.delivery_timeout(), guard).context("making the HTTP client")?;
        let dispatcher = Dispatcher {
            broker: broker.clone(),
            pusher,
            secret_keys: secret_keys.clone(),
            max_deliveries: settings.max_deliveries,
            grace: settings.shutdown_grace(),
            lease: Duration::from_secs(settings.lease_secs),
            metrics: dispatcher::Metrics::register(metrics.registry()),
            tracer: tracer.clone(),
        };
        roles.spawn(dispatcher::run(dispatcher, roles_end.clone()));
    }
    admission.open(routes::router(settings, secret_keys.as_ref(), broker.as_ref(), (metrics, tracer), &roles_end));

    let ended_early = tokio::select! {
        () = stop.cancelled() => None,
        ended = roles.join_next() => ended,
        // It ends before it is told to only where it dies: then nothing would be made anew after a lost connection.
        Some(ended) = keeper.join_next() => Some(ended),
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
