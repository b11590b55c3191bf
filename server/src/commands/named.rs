//! A subscription as somebody names it: by its id, or by its URL.

use domain::TargetUrl;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::client::{Api, is_refused_with};
use super::events::encoded;

/// A subscription that a command is about.
pub(crate) struct Named {
    /// As it was typed.
    typed: String,
    /// Its id.
    pub(crate) id: String,
}

impl Named {
    /// Of a URL: the subscription of this very spelling where there is one, and otherwise that of the normalised URL.
    pub(crate) async fn find(api: &Api, typed: &str) -> anyhow::Result<Self> {
        let named = |id: String| Self { typed: typed.to_owned(), id };
        if !typed.contains("://") {
            return Ok(named(typed.to_owned()));
        }
        let url = TargetUrl::parse(typed)?;
        let normalised = url.normalised();
        if url != normalised {
            let as_typed = named(url.subscription_id().to_string());
            if api.send(as_typed.request(api, Method::GET, "")).await.is_ok() {
                return Ok(as_typed);
            }
        }
        Ok(named(normalised.subscription_id().to_string()))
    }

    /// A request about it, to what stands behind its path.
    pub(crate) fn request(&self, api: &Api, method: Method, behind: &str) -> RequestBuilder {
        api.request(method, &format!("/v1/subscriptions/{}{behind}", encoded(&self.id)))
    }

    /// Sends such a request, which is answered with JSON. Where the subscription is not there, the error names it as it was typed.
    pub(crate) async fn json(&self, api: &Api, request: RequestBuilder) -> anyhow::Result<Value> {
        api.json(request).await.map_err(|error| self.told(error))
    }

    /// What went wrong, in the words of who asked.
    pub(crate) fn told(&self, error: anyhow::Error) -> anyhow::Error {
        if self.typed != self.id && is_refused_with(&error, StatusCode::NOT_FOUND) {
            return anyhow::anyhow!("404 Not Found: there is no subscription of {} ({})", self.typed, self.id);
        }
        error
    }
}
