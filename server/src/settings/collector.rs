//! Where the spans go that tell of each event's way.

use anyhow::Context;
use clap::Args;
use spans::{Endpoint, Exporter};

use super::hidden::Hidden;

/// An OpenTelemetry collector. The addresses may hold a password.
#[derive(Debug, Clone, Args)]
pub(crate) struct Collector {
    /// An OpenTelemetry collector that is told each event's way, in OTLP over HTTP, like http://127.0.0.1:4318. Without
    /// it nobody is. Further OTEL_* variables are heeded: see docs/logs.md
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    otlp_endpoint: Option<Hidden>,

    /// The same with its path, which is /v1/traces otherwise
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", hide_env_values = true)]
    otlp_traces_endpoint: Option<Hidden>,
}

impl Collector {
    /// Begins to tell it, if there is one. An empty variable is none, as OpenTelemetry has it.
    pub(crate) fn exporter(&self) -> anyhow::Result<Option<Exporter>> {
        let given = |setting: &Option<Hidden>| {
            setting.as_ref().map(|Hidden(text)| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let endpoint = match (given(&self.otlp_traces_endpoint), given(&self.otlp_endpoint)) {
            (Some(url), _) => Endpoint::of_traces(&url).context("reading OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")?,
            (None, Some(url)) => Endpoint::of_all_signals(&url).context("reading OTEL_EXPORTER_OTLP_ENDPOINT")?,
            (None, None) => return Ok(None),
        };
        let exporter = Exporter::start(endpoint.clone()).context("exporting spans")?;
        match exporter {
            Some(_) => tracing::info!(collector = %endpoint, "spans.exported"),
            None => tracing::info!("spans.switched_off: OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER says so"),
        }
        Ok(exporter)
    }
}
