//! One connection to NATS: made in the background, kept up, and watched.

pub(crate) mod direct_get;
pub(crate) mod handles;
pub(crate) mod link;
pub(crate) mod log_gate;
pub mod metrics;
pub(crate) mod probe;
pub(crate) mod publish;
mod rotation;
pub(crate) mod storage;
pub(crate) mod write_health;
mod write_watchdog;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{During, Unavailable};
use crate::poison::detection::PoisonDetection;
use crate::reminder::Reminder;
use crate::settings::{BadConfig, Config, addresses_of, redacted};
use crate::topology::{self, Objects};
use handles::Handles;
pub use link::Link;
use link::Listeners;
pub use log_gate::LogGate;
pub use storage::{Disk, DiskState, Storage};
pub use write_health::{Cause, Failure};
use write_watchdog::{PATIENCE, WriteWatchdog};

/// How often to check that the objects are still there.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);
/// How often, and how many times, the bucket `LOG` is looked for where it was not there at first.
const LOG_LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOG_LOOKS: u32 = 5;
/// The oldest nats-server that can reset a consumer.
pub(crate) const OLDEST_SERVER: (i64, i64) = (2, 14);
/// How long to wait for a connection that is gone: a server that is restarted is back within it.
pub(crate) const RECONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before objects that could not be made are tried again.
const TOPOLOGY_RETRY: Duration = Duration::from_millis(250);
/// How long to wait before a client that has ended is started again, so that one that ends at once does not keep the process
/// busy; and before a start that failed is tried again.
const CLIENT_PAUSE: Duration = Duration::from_millis(25);
const CLIENT_RETRY: Duration = Duration::from_secs(1);
/// How long writes under way are waited for at the end.
const WRITES_PATIENCE: Duration = Duration::from_secs(2);

/// A handle on NATS; clones share one connection.
#[derive(Clone)]
pub struct Broker {
    handles: Arc<watch::Sender<Arc<Handles>>>,
    config: Arc<Config>,
    addresses: Arc<[(String, u16)]>,
    objects: Arc<watch::Sender<Option<Arc<Objects>>>>,
    pub(crate) write_watchdog: WriteWatchdog,
    /// The key that this process writes to see whether it can.
    probe_key: Arc<str>,
    listeners: Listeners,
    log_gate: LogGate,
    is_closing: CancellationToken,
    /// What is written to the end, though the one who asked for it goes away.
    pub(crate) writes: TaskTracker,
}

impl Broker {
    /// Starts to connect, and returns at once whether or not there is a server yet. Run [`Broker::keep`] beside it.
    pub async fn connect(config: Config) -> Result<Self, BadConfig> {
        let addresses = addresses_of(&config.url)?;
        let hosts_and_ports = addresses.iter().map(|address| (address.host().to_owned(), address.port())).collect();
        let listeners = Listeners::new(PoisonDetection::default(), false);
        let handles = Handles::open(&config, listeners.clone()).await?;
        handles.are_in_place();
        Ok(Self {
            handles: Arc::new(watch::Sender::new(Arc::new(handles))),
            config: Arc::new(config),
            addresses: hosts_and_ports,
            objects: Arc::new(watch::Sender::new(None)),
            write_watchdog: WriteWatchdog::new(),
            probe_key: probe::new_key().into(),
            listeners,
            log_gate: LogGate::default(),
            is_closing: CancellationToken::new(),
            writes: TaskTracker::new(),
        })
    }

    /// A handle that reads over a connection of its own: what the client library fails on there costs this one nothing. Nobody
    /// keeps it working; it is closed when its last clone has gone.
    pub(crate) async fn aside(&self, poison_detection: PoisonDetection) -> Result<Self, BadConfig> {
        let listeners = Listeners::new(poison_detection, true);
        let handles = Handles::open(&self.config, listeners.clone()).await?;
        handles.are_in_place();
        Ok(Self {
            handles: Arc::new(watch::Sender::new(Arc::new(handles))),
            listeners,
            write_watchdog: WriteWatchdog::new(),
            log_gate: LogGate::default(),
            is_closing: CancellationToken::new(),
            ..self.clone()
        })
    }

    /// Names the process of nats-server that this is connected to: another one after each of its starts.
    pub fn server_process(&self) -> Option<String> {
        self.handles().client.try_server_info().map(|info| info.server_id)
    }

    /// Keeps the connection working until told to stop: makes missing objects after every new connection and every 15
    /// seconds, leaves a server that acknowledges nothing, starts a client again that has panicked, and probes the storage.
    pub async fn keep(&self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            never = self.keep_objects() => match never {},
            never = self.keep_to_good_servers() => match never {},
            never = self.keep_handles() => match never {},
            never = self.keep_probing() => match never {},
        }
    }

    /// Starts the client again if it has panicked.
    async fn keep_handles(&self) -> Infallible {
        loop {
            self.handles().have_ended().await;
            if self.is_closing.is_cancelled() {
                return std::future::pending().await;
            }
            tracing::error!(cause = "panic", "nats.client_ended");
            self.listeners.connection_is_lost();
            tokio::time::sleep(CLIENT_PAUSE).await;
            loop {
                match Handles::open(&self.config, self.listeners.clone()).await {
                    Ok(handles) => {
                        self.handles.send_replace(Arc::new(handles));
                        break self.handles().are_in_place();
                    }
                    Err(error) => {
                        tracing::error!(%error, "nats.client_not_started");
                        tokio::time::sleep(CLIENT_RETRY).await;
                    }
                }
            }
        }
    }

    /// Leaves a server that acknowledges nothing, where there are others.
    async fn keep_to_good_servers(&self) -> Infallible {
        loop {
            self.write_watchdog.expired().await;
            let client = &self.handles().client;
            let is_up = self.listeners.link.borrow().is_up;
            if is_up && client.server_pool().await.is_ok_and(|servers| servers.len() > 1) {
                tracing::warn!(server = %self.server(), unacknowledged_secs = PATIENCE.as_secs(), "nats.server_left");
                // It fails only where the client is gone, and then there is nothing to leave.
                let _ = client.force_reconnect().await;
            }
            self.write_watchdog.acknowledged();
        }
    }

    async fn keep_objects(&self) -> Infallible {
        let mut link = self.link();
        // Where the bucket `LOG` could not be made on a connection, that is not tried again on it; but it may have been made all
        // the same, or by another process, so it is looked for a few times more.
        let mut log_refused_on = None;
        let (reminder, mut looks) = (Reminder::default(), 0);
        loop {
            let now = *link.borrow_and_update();
            if now.is_up {
                let may_make_log = self.config.keeps_log && log_refused_on != Some(now.generation);
                Box::pin(self.make_objects(may_make_log, &reminder)).await;
                if self.objects().is_ok_and(|objects| objects.log.is_none()) {
                    looks = if log_refused_on == Some(now.generation) { looks + 1 } else { 0 };
                    log_refused_on = Some(now.generation);
                } else {
                    looks = LOG_LOOKS;
                }
            }
            let is_soon = log_refused_on == Some(now.generation) && looks < LOG_LOOKS;
            // The sender lives as long as this.
            let _ = timeout(if is_soon { LOG_LOOK_INTERVAL } else { CHECK_INTERVAL }, link.changed()).await;
        }
    }

    async fn make_objects(&self, may_make_log: bool, reminder: &Reminder) {
        loop {
            let handles = self.handles();
            let objects = topology::ensure(&handles.context, &self.config, may_make_log, reminder);
            match self.while_connected("looking for streams and buckets", objects).await {
                Ok(objects) => {
                    let had = self.objects.send_replace(Some(Arc::new(objects)));
                    if had.is_none() {
                        tracing::info!(server = %self.server(), "nats.ready");
                    }
                    return;
                }
                Err(error) => {
                    // The handles of before stay: a missing object shows when it is used.
                    if reminder.fails(&error) {
                        tracing::warn!(%error, "nats.not_ready");
                    }
                    tokio::time::sleep(TOPOLOGY_RETRY).await;
                }
            }
        }
    }

    /// The client library's handles on the connection that there is now.
    pub(crate) fn handles(&self) -> Arc<Handles> {
        self.handles.borrow().clone()
    }

    /// The connection's state, and its changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.listeners.link.subscribe()
    }

    /// Whether messages that cannot be read are suspected, and which are known.
    pub(crate) fn poison_detection(&self) -> &PoisonDetection {
        &self.listeners.poison_detection
    }

    /// Whether everything that the services need is there; the error says what is not.
    pub async fn check(&self) -> Result<(), Unavailable> {
        const WHAT: &str = "NATS is not ready";
        // First: it may be why nats-server is away.
        if let Some(why) = self.storage().refusal() {
            return Err(Unavailable::new(WHAT, why));
        }
        if !self.listeners.link.borrow().is_up {
            return Err(Unavailable::new(WHAT, format!("there is no connection to {}", self.server())));
        }
        let (major, minor) = OLDEST_SERVER;
        if !self.handles().client.is_server_compatible(major, minor, 0) {
            return Err(Unavailable::new(WHAT, format!("{} is older than {major}.{minor}", self.server())));
        }
        let objects = self.objects()?;
        self.while_connected(WHAT, async { objects.events.get_info().await.during(WHAT) }).await?;
        self.storage().check()
    }

    /// The server's name and version, or the address where there is no connection.
    pub fn server(&self) -> String {
        match self.handles().client.try_server_info() {
            Some(info) => format!("{} (nats-server {}) at {}:{}", info.server_name, info.version, info.host, info.port),
            None => redacted(&self.config.url),
        }
    }

    /// Hosts (names, or addresses without brackets) and ports of the servers that the configuration names.
    pub fn addresses(&self) -> &[(String, u16)] {
        &self.addresses
    }

    /// The largest message that the server takes, headers included, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.handles().client.max_payload()
    }

    /// The objects, once they have been made on this connection.
    pub(crate) fn objects(&self) -> Result<Arc<Objects>, Unavailable> {
        let objects = self.objects.borrow().clone();
        objects.ok_or_else(|| Unavailable::new("NATS is not ready", "streams and buckets have not been made yet"))
    }

    /// Waits until every stream and bucket is there.
    pub async fn until_ready(&self) {
        // The sender lives as long as this.
        let _ = self.objects.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether what is to be stored can be.
    pub fn storage(&self) -> &Storage {
        &self.config.storage
    }

    /// What keeps events from being stored before the log was looked at.
    pub fn log_gate(&self) -> &LogGate {
        &self.log_gate
    }

    /// Whether events may be stored now.
    pub(crate) fn takes_events(&self) -> bool {
        let Link { generation, is_up } = *self.listeners.link.borrow();
        is_up && self.storage().has_room() && self.log_gate.is_open(generation)
    }

    /// Waits until events may be stored on the present connection, but not past the deadline. Where the disk has no room
    /// for them, nothing is waited for.
    pub(crate) async fn takes_events_by(&self, deadline: Instant) -> Result<(), Unavailable> {
        self.storage().takes_events()?;
        let generation = self.listeners.link.borrow().generation;
        match self.log_gate.opens_by(generation, deadline).await {
            true => Ok(()),
            false => {
                Err(Unavailable::new("the log is not looked at yet", "whether it is the one that it was is not known"))
            }
        }
    }

    /// Whether there is a connection now.
    pub(crate) fn is_connected(&self) -> bool {
        self.listeners.link.borrow().is_up
    }

    /// Waits until the present connection is lost: requests on it are not answered any more. Waits for ever where there is
    /// none, as a request then goes out on the next one.
    pub(crate) async fn is_lost(&self) {
        let mut link = self.link();
        let now = *link.borrow();
        // The sender lives as long as this.
        if !now.is_up || link.wait_for(|link| *link != now).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What some request comes to. Ends with an error when the present connection is lost, as an answer may never come then;
    /// `what` was being done, and where that is a write, it may have been done.
    pub(crate) async fn while_connected<T>(
        &self,
        what: &'static str,
        request: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        tokio::select! {
            biased;
            done = request => done,
            () = self.is_lost() => Err(Unavailable::new(what, "the connection was lost")),
        }
    }

    /// Waits for a connection, but not past the deadline.
    pub(crate) async fn connected_by(&self, deadline: Instant) -> bool {
        if self.is_connected() {
            return true;
        }
        let mut link = self.link();
        matches!(timeout_at(deadline, link.wait_for(|link| link.is_up)).await, Ok(Ok(_)))
    }

    /// Waits for a later connection than `before`, but not past the deadline.
    pub(crate) async fn connected_anew_by(&self, before: Link, deadline: Instant) {
        let mut link = self.link();
        let anew = link.wait_for(|link| link.is_up && link.generation != before.generation);
        let _ = timeout_at(deadline, anew).await;
    }

    /// Sends what was handed to the client, and closes the connection.
    pub async fn close(&self) -> Result<(), Unavailable> {
        const WHAT: &str = "closing the connection to NATS";
        self.writes.close();
        // Each has a deadline of its own.
        let _ = timeout(WRITES_PATIENCE, self.writes.wait()).await;
        self.is_closing.cancel();
        let client = &self.handles().client;
        // Draining alone may leave behind what is still in the client's buffer (seen: the last attempts were lost).
        client.flush().await.during(WHAT)?;
        client.drain().await.during(WHAT)
    }
}
