//! The state of the connection, and who is told when it is made or lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Event;
use tokio::sync::watch;

use crate::connection::probe;
use crate::poison::detection::PoisonDetection;

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// How many connections there have been. What was under way on an earlier one is lost.
    pub generation: u64,
    /// Whether there is one now.
    pub is_up: bool,
}

/// Who is told of connections that are made and lost.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) link: Arc<watch::Sender<Link>>,
    pub(crate) poison_detection: PoisonDetection,
    /// Whether this connection's user may not write the probe.
    pub(crate) probe_is_refused: Arc<AtomicBool>,
    /// Whether it is a connection beside the one that everything goes by.
    pub(crate) is_aside: bool,
}

impl Listeners {
    /// Of a connection that is still to be made.
    pub(super) fn new(poison_detection: PoisonDetection, is_aside: bool) -> Self {
        let link = Arc::new(watch::Sender::new(Link { generation: 0, is_up: false }));
        Self { link, poison_detection, probe_is_refused: Arc::default(), is_aside }
    }

    pub(super) fn tell(&self, event: &Event) {
        let link = &self.link;
        match event {
            Event::Connected if self.is_aside => {
                link.send_modify(|link| *link = Link { generation: link.generation + 1, is_up: true });
            }
            Event::Disconnected if self.is_aside => self.connection_is_lost(),
            event if self.is_aside => tracing::debug!(%event, "nats.event_aside"),
            Event::Connected => {
                self.probe_is_refused.store(false, Ordering::Relaxed);
                link.send_modify(|link| *link = Link { generation: link.generation + 1, is_up: true });
                tracing::info!("nats.connected");
            }
            Event::Draining => tracing::debug!("nats.draining"),
            Event::Closed => tracing::info!("nats.closed"),
            Event::Disconnected => {
                self.connection_is_lost();
                tracing::warn!("nats.disconnected");
            }
            Event::ClientError(error) if !link.borrow().is_up => tracing::debug!(%error, "nats.connect_failed"),
            Event::ServerError(error) if probe::is_refusal(&error.to_string()) => {
                self.probe_is_refused.store(true, Ordering::Relaxed);
                tracing::warn!(%error, "nats.probe_not_allowed");
            }
            other => tracing::warn!(event = %other, "nats.event"),
        }
    }

    /// Tells that there is no connection any more.
    pub(crate) fn connection_is_lost(&self) {
        self.poison_detection.connection_is_lost();
        self.link.send_modify(|link| link.is_up = false);
    }
}
