//! `/metrics`: what all roles of this process count, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use utoipa_axum::router::OpenApiRouter;
use web::Problem;
use web::openapi::TokenProblems;

/// What every name begins with.
const PREFIX: &str = "mer";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry that holds what is so in every process. What is registered in it has the prefix.
pub(crate) struct Metrics(Registry);

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self(Registry::default());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        metrics.registry().register("build", "Which build this is", build);
        metrics
    }

    /// Where roles register what they count.
    pub(crate) fn registry(&mut self) -> &mut Registry {
        self.0.sub_registry_with_prefix(PREFIX)
    }

    /// `/metrics`, with all that is registered by now.
    pub(crate) fn router(self) -> OpenApiRouter {
        OpenApiRouter::new().route("/metrics", get(metrics)).with_state(Arc::new(self.0))
    }
}

/// What this process counts, for Prometheus
///
/// OpenMetrics, if `Accept` names it; else Prometheus's older text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operations",
    responses(
        (status = 200, description = "The metrics", content(
            (String = "text/plain", example = "# HELP mer_nats_connected Whether there is a connection to NATS.\n# TYPE mer_nats_connected gauge\nmer_nats_connected 1\n"),
            (String = "application/openmetrics-text"),
        )),
        TokenProblems,
    ),
)]
pub(crate) async fn metrics(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let mut written = String::new();
    if text::encode(&mut written, &registry).is_err() {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written").into_response();
    }
    let accepts_open_metrics = headers
        .get_all(ACCEPT)
        .iter()
        .any(|accepted| accepted.to_str().is_ok_and(|accepted| accepted.contains("application/openmetrics-text")));
    match accepts_open_metrics {
        true => ([(CONTENT_TYPE, OPEN_METRICS)], written).into_response(),
        false => ([(CONTENT_TYPE, PLAIN)], plain(&written)).into_response(),
    }
}

/// OpenMetrics as the text format that was before it: a counter's name ends as those of its samples do, an info is a
/// gauge, and there are neither units nor an end.
fn plain(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            plain.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_as_their_samples() {
        let open_metrics = "# HELP a A. b.\n# TYPE a counter\na_total{x=\"# y\"} 1\n# HELP b_seconds B.\n\
            # TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 2.0\n# HELP c C.\n# TYPE c info\nc_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            plain(open_metrics),
            "# HELP a_total A. b.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n# HELP b_seconds B.\n\
            # TYPE b_seconds gauge\nb_seconds 2.0\n# HELP c_info C.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n"
        );
    }
}
