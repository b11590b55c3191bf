//! A nats-server and a mer of a row's own, and what is done with them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::Context;
use domain::Stamp;
use serde_json::{Value, json};
use tests::{Api, Mer, Nats};

use crate::generator::{self, Load};
use crate::limits::{self, Message, Until};
use crate::machine::Spent;
use crate::request::Request;

/// The type that most events here have.
pub(crate) const TYPE: &str = "benchmark.happened";
/// How many URLs are registered in one request.
const URLS_PER_REQUEST: usize = 250;
/// How many events are published at once when a log is filled.
const FILL_IN_FLIGHT: usize = 512;

/// Both, on free ports. They end when this is dropped.
pub(crate) struct House {
    pub(crate) mer: Mer,
    pub(crate) nats: Nats,
    pub(crate) api: Api,
    pub(crate) jetstream: Context,
    address: SocketAddr,
}

/// Events in the log.
pub(crate) struct Stored {
    /// A moment before all of them.
    pub(crate) since: String,
    /// Where they are.
    pub(crate) sequences: Vec<u64>,
}

impl House {
    /// Starts them. The nats-server syncs at this interval.
    pub(crate) async fn start(binary: &str, sync_interval: &str) -> anyhow::Result<Self> {
        let nats = Nats::start_syncing(&format!("\"{sync_interval}\""), "");
        let mer = Mer::new(binary).set("MER_NATS_URL", nats.url()).set("MER_DELIVERY_TIMEOUT_MS", 30_000);
        let mer = mer.start().await;
        let address = mer.url().strip_prefix("http://").context("an address")?.parse()?;
        let jetstream = async_nats::jetstream::new(nats.client().await);
        Ok(Self { api: mer.api(), mer, nats, jetstream, address })
    }

    /// The processor time that everything here has used up to now.
    pub(crate) fn spent(&self) -> anyhow::Result<Spent> {
        Spent::by(self.mer.id(), self.nats.id())
    }

    /// The post of one event of a type.
    pub(crate) fn post_of(event_type: &str) -> Request {
        Request::event(&format!("/receive_event/{event_type}"))
    }

    /// Where the log ends.
    pub(crate) async fn last_sequence(&self) -> anyhow::Result<u64> {
        Ok(self.jetstream.get_stream("EVENTS").await?.cached_info().state.last_sequence)
    }

    /// Posts as fast as events are accepted. Each that was acknowledged must be in the log, and nothing else.
    pub(crate) async fn accept(&self, request: &Request, connections: usize, time: Duration) -> anyhow::Result<Load> {
        let before = self.last_sequence().await?;
        let load = generator::closed(self.address, request, connections, time).await?;
        self.check(&load, before).await?;
        Ok(load)
    }

    /// Posts so many a second. The same must hold.
    pub(crate) async fn accept_paced(
        &self,
        request: &Request,
        connections: usize,
        rate: f64,
        time: Duration,
    ) -> anyhow::Result<Load> {
        let before = self.last_sequence().await?;
        let load = generator::paced(self.address, request, connections, rate, time).await?;
        self.check(&load, before).await?;
        Ok(load)
    }

    async fn check(&self, load: &Load, before: u64) -> anyhow::Result<()> {
        let after = self.last_sequence().await?;
        ensure!(
            load.sequences.len() == load.events,
            "{} of {} were told where they are",
            load.sequences.len(),
            load.events
        );
        let wrong = load.sequences.iter().zip(before + 1..).find(|(told, is)| *told != is);
        ensure!(wrong.is_none(), "{wrong:?}: what was told of an event, and where it must be");
        ensure!(after == before + load.events as u64, "{} were accepted, {} stored", load.events, after - before);
        Ok(())
    }

    /// Stores events past mer, faster than it could be asked to.
    pub(crate) async fn fill(&self, event_type: &str, count: u64) -> anyhow::Result<Stored> {
        let (since, before) = (Stamp::now().to_rfc3339(), self.last_sequence().await?);
        limits::publish(&self.jetstream, &Message::new(event_type), FILL_IN_FLIGHT, Until::Count(count)).await?;
        let after = self.last_sequence().await?;
        ensure!(after - before == count, "{count} were published, {} stored", after - before);
        Ok(Stored { since, sequences: (before + 1..=after).collect() })
    }

    /// Registers URLs for a type, with these attributes.
    pub(crate) async fn register(&self, urls: &[String], event_type: &str, attributes: &Value) -> anyhow::Result<()> {
        for urls in urls.chunks(URLS_PER_REQUEST) {
            let entry = |url: &String| {
                let mut entry = attributes.clone();
                entry["url"] = url.as_str().into();
                entry
            };
            let entries: Vec<Value> = urls.iter().map(entry).collect();
            let body = json!({"events_to_register": [{"event": event_type, "urls_to_register": entries}]});
            self.ask("/register_for_events/", &body).await?;
        }
        Ok(())
    }

    /// Takes URLs off a type.
    pub(crate) async fn unregister(&self, urls: &[String], event_type: &str) -> anyhow::Result<()> {
        for urls in urls.chunks(URLS_PER_REQUEST) {
            let entries: Vec<Value> = urls.iter().map(|url| json!({"url": url})).collect();
            let body = json!({"events_to_unregister": [{"event": event_type, "urls_to_unregister": entries}]});
            self.ask("/unregister_for_events/", &body).await?;
        }
        Ok(())
    }

    async fn ask(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self.api.post(path, body).await;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(())
    }
}
