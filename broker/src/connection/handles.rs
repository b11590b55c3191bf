//! The client library's handles on one connection to NATS that it keeps up, and how it is seen that it does so no more.
//!
//! It does so until it is told to close, or until it panics: async-nats 0.51 on a message with a carriage return within a
//! header's value (<https://github.com/nats-io/nats.rs/pull/1612>). What the handles are asked for then fails, for ever.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, Context};
use tokio_util::sync::CancellationToken;

use super::link::Listeners;
use super::rotation::Rotation;
use crate::settings::{BadConfig, Config, addresses_of, bad_address, options_of};

/// How long a JetStream request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// How often an idle connection is tried. Two unanswered pings end it.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// What is asked of NATS is asked by these.
pub(crate) struct Handles {
    pub(crate) client: Client,
    pub(crate) context: Context,
    ended: CancellationToken,
    in_place: CancellationToken,
}

impl Handles {
    /// Starts to connect, and returns at once whether or not there is a server yet. Nobody hears of the connection before
    /// the handles are in place.
    pub(crate) async fn open(config: &Config, listeners: Listeners) -> Result<Self, BadConfig> {
        let rotation = Rotation::default();
        let (ended, in_place) = (CancellationToken::new(), CancellationToken::new());
        let gate = in_place.clone();
        // The library holds the callback for as long as it keeps up the connection.
        let is_kept_up = ended.clone().drop_guard();
        let client = options_of(config)
            .await?
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(|attempts| {
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                Duration::from_millis(25).saturating_mul(attempts).min(MAX_RECONNECT_DELAY)
            })
            .reconnect_to_server_callback(move |servers, _| std::future::ready(rotation.next(&servers)))
            .event_callback(move |event| {
                let _is_kept_up = &is_kept_up;
                let (listeners, gate) = (listeners.clone(), gate.clone());
                async move {
                    gate.cancelled().await;
                    listeners.hear(&event);
                }
            })
            .connect(addresses_of(&config.url)?)
            .await
            .map_err(|e| bad_address(&config.url, e))?;
        let context = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Self { client, context, ended, in_place })
    }

    /// Whoever hears of the connection finds them.
    pub(crate) fn are_in_place(&self) {
        self.in_place.cancel();
    }

    /// Waits until nobody keeps up the connection any more: nothing comes of these handles from then on.
    pub(crate) async fn have_ended(&self) {
        self.ended.cancelled().await;
    }
}
