//! How many requests were turned away, and why.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Requests that were turned away before a role saw them. Clones share their counters.
#[derive(Debug, Clone)]
pub(crate) struct TurnedAway {
    pub(super) overload: Counter,
    pub(super) unauthorized: Counter,
    pub(super) forbidden: Counter,
}

impl TurnedAway {
    /// Counters that are shown with the others of the registry.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let help = "Requests that were turned away before anybody looked at them";
        let reasons = ["overload", "unauthorized", "forbidden"];
        let [overload, unauthorized, forbidden] =
            web::metrics::counters(registry, "requests_turned_away", help, "reason", reasons);
        Self { overload, unauthorized, forbidden }
    }
}
