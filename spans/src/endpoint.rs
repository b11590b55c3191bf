//! Where the collector is.

use url::Url;

/// What is put behind the address that is for all signals, as the OTLP exporter's specification says.
const TRACES: &str = "/v1/traces";

/// An `http` or `https` URL that spans are posted to. It may hold a password: it is not shown.
#[derive(Clone)]
pub struct Endpoint(Url);

/// A text that is no such URL. What it is is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not an absolute URL with `http` or `https`, like `http://127.0.0.1:4318`")]
pub struct NotAnEndpoint;

impl Endpoint {
    /// The collector's own address for spans.
    pub fn of_traces(url: &str) -> Result<Self, NotAnEndpoint> {
        let url = Url::parse(url).map_err(|_| NotAnEndpoint)?;
        let is_good = matches!(url.scheme(), "http" | "https") && url.has_host();
        is_good.then_some(Self(url)).ok_or(NotAnEndpoint)
    }

    /// The address below which the collector has one for each signal.
    pub fn of_all_signals(url: &str) -> Result<Self, NotAnEndpoint> {
        Self::of_traces(&format!("{}{TRACES}", url.trim_end_matches('/')))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// Without user information, path and query: secrets live there.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.origin().ascii_serialization())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_to_the_address_for_all_signals_only() {
        for (all, expected) in [
            ("http://h:4318", "http://h:4318/v1/traces"),
            ("http://h:4318/", "http://h:4318/v1/traces"),
            ("https://u:p@h/otlp", "https://u:p@h/otlp/v1/traces"),
        ] {
            assert_eq!(Endpoint::of_all_signals(all).unwrap().as_str(), expected);
        }
        assert_eq!(Endpoint::of_traces("http://h/spans").unwrap().as_str(), "http://h/spans");
    }

    #[test]
    fn what_is_none_is_refused_and_what_is_secret_not_shown() {
        for text in ["", "canary", "canary:4317", "ftp://canary", "http://"] {
            assert_eq!(Endpoint::of_traces(text).unwrap_err(), NotAnEndpoint, "{text}");
        }
        let endpoint = Endpoint::of_traces("http://canary:canary@h:1/canary?canary").unwrap();
        assert_eq!(format!("{endpoint} {endpoint:?}"), "http://h:1 Endpoint(http://h:1)");
    }
}
