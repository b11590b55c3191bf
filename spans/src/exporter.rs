//! What collects spans and sends them in batches, beside everything else.
//!
//! A span that ends goes into a queue of at most `OTEL_BSP_MAX_QUEUE_SIZE` (2,048), where there is room, and is dropped
//! where there is none: nobody waits. A thread of the SDK's takes them out and posts them.

use std::env;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::collector::Collector;
use crate::endpoint::Endpoint;
use crate::tracer::Tracer;

/// What the process is called where nobody says otherwise.
const SERVICE: &str = "mer";
/// How long the collector may take to answer, where nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// To how many events a batch's span may link: to all that a batch can have.
const MAX_LINKS: u32 = 1000;

/// Sends what its tracers' spans tell, until its end.
pub struct Exporter(SdkTracerProvider);

/// Why nothing can be exported, ever.
#[derive(Debug, thiserror::Error)]
pub enum CannotExport {
    /// It is to speak what it does not.
    #[error("{0} is not `http/protobuf`, which is all that is spoken here (collectors take it at port 4318)")]
    Protocol(&'static str),
    /// There is no client.
    #[error("making the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The SDK does not take the settings. Which of them is wrong it says with the value, which may be secret.
    #[error("the variables OTEL_EXPORTER_OTLP_… are not what they have to be")]
    Settings,
}

impl Exporter {
    /// Begins to export to a collector. It is not asked whether it is there. What else there is to set is taken from the
    /// variables that OpenTelemetry has for it: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
    /// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_…`. Answers `None` where one of them switches it off.
    ///
    /// Must be called on the runtime that makes the requests.
    pub fn start(endpoint: Endpoint) -> Result<Option<Self>, CannotExport> {
        if setting("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
            || setting("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none")
        {
            return Ok(None);
        }
        let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        if let Some((name, text)) = protocols.into_iter().find_map(|name| Some((name, setting(name)?)))
            && text != "http/protobuf"
        {
            return Err(CannotExport::Protocol(name));
        }
        let timeout = timeout();
        let url = endpoint.as_str().to_owned();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(endpoint, timeout, Handle::current())?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_timeout(timeout)
            .build()
            .map_err(|_| CannotExport::Settings)?;
        let mut provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_span_processor(BatchSpanProcessor::builder(exporter).build());
        if setting("OTEL_SPAN_LINK_COUNT_LIMIT").is_none() {
            provider = provider.with_max_links_per_span(MAX_LINKS);
        }
        Ok(Some(Self(provider.build())))
    }

    /// What begins spans that are exported here.
    pub fn tracer(&self) -> Tracer {
        Tracer::on(self.0.tracer(SERVICE))
    }

    /// Sends what is left, as far as that can be done so fast. No span begins any more.
    pub async fn end(self, deadline: Duration) {
        // It waits for its thread: so not on one of the runtime's own.
        let ended = spawn_blocking(move || self.0.shutdown_with_timeout(deadline)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(deadline_ms = deadline.as_millis(), "spans.lost");
        }
    }
}

/// An empty variable is as good as none.
fn setting(name: &str) -> Option<String> {
    env::var(name).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn timeout() -> Duration {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let millis = names.into_iter().find_map(|name| setting(name)?.parse().ok());
    millis.filter(|millis| *millis > 0).map_or(TIMEOUT, Duration::from_millis)
}

fn resource() -> Resource {
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let is_named = setting("OTEL_SERVICE_NAME").is_some()
        || setting("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|text| {
            text.split(',').any(|pair| pair.split('=').next().is_some_and(|name| name.trim() == "service.name"))
        });
    if !is_named {
        resource = resource.with_service_name(SERVICE);
    }
    resource.build()
}
