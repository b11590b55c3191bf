//! The OpenTelemetry collector that gets the spans of each event.

use anyhow::Context;
use clap::Args;
use spans::{Endpoint, Exporter};

use super::hidden::Hidden;

/// What can switch off the export of spans though a collector is named.
const SWITCHES: &str = "OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER";

/// An OpenTelemetry collector. The addresses may hold a password.
#[derive(Debug, Clone, Args)]
pub(crate) struct Collector {
    /// An OpenTelemetry collector for traces of each event, in OTLP over HTTP, like http://127.0.0.1:4318; none: no traces.
    /// mer reads further OTEL_* variables: see docs/logs.md
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    otlp_endpoint: Option<Hidden>,

    /// The same with its path, which is /v1/traces otherwise
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", hide_env_values = true)]
    otlp_traces_endpoint: Option<Hidden>,
}

impl Collector {
    /// Starts the export, if a collector is named. An empty variable names none, as OpenTelemetry specifies.
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
            None => tracing::info!(settings = SWITCHES, "spans.switched_off"),
        }
        Ok(exporter)
    }
}
