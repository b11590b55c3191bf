//! The client library's handles on one connection to NATS.
//!
//! The library keeps the connection up until it is told to close, or until it panics: async-nats 0.51 does on some messages
//! (see `poison`). After a panic every request fails for ever, so a new client is needed: [`Handles::have_ended`] tells when.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, Context};
use tokio_util::sync::CancellationToken;

use super::link::Listeners;
use super::rotation::Rotation;
use crate::settings::{BadConfig, Config, addresses_of, bad_address, options_of};

/// How long a JetStream request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// How often the client pings an idle connection. Two unanswered pings end it.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// The client, and its JetStream context.
pub(crate) struct Handles {
    pub(crate) client: Client,
    pub(crate) context: Context,
    ended: CancellationToken,
    in_place: CancellationToken,
}

impl Handles {
    /// Starts to connect, and returns at once whether or not there is a server yet. Listeners are told of the connection
    /// when the handles are in place, and not before.
    pub(crate) async fn open(config: &Config, listeners: Listeners) -> Result<Self, BadConfig> {
        let rotation = Rotation::default();
        let (ended, in_place) = (CancellationToken::new(), CancellationToken::new());
        let gate = in_place.clone();
        // The library holds the callback for as long as it keeps the connection up.
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
                    listeners.tell(&event);
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

    /// The handles are where listeners look for them: they may be told now.
    pub(crate) fn are_in_place(&self) {
        self.in_place.cancel();
    }

    /// Waits until the library keeps the connection up no more. From then on every request fails.
    pub(crate) async fn have_ended(&self) {
        self.ended.cancelled().await;
    }
}
