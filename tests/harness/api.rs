//! What a user does with curl.

use std::sync::Once;
use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

/// A user of one mer. Clones share their connections.
#[derive(Clone)]
pub struct Api {
    base: String,
    client: Client,
}

/// An event that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Its place in the log.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// Its stamp, out of `event`.
    pub stamp: String,
    /// The whole body of the answer.
    pub body: String,
}

impl Api {
    /// A user of the mer at this address.
    pub fn new(base: String) -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { base, client: client.timeout(Duration::from_secs(20)).build().expect("an HTTP client") }
    }

    /// A request with a body of JSON, whatever comes of it.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }

    /// POST of JSON; an answer is expected, of any status.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Method::POST, path, &[], body.to_string()).await.expect("an answer")
    }

    /// What a GET answers, which must be JSON, with a 200.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.send(Method::GET, path, &[], "").await.expect("an answer");
        let (status, body) = (response.status(), response.text().await.expect("a body"));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The subscription of a URL, as `/v1/subscriptions/{id}` answers it.
    pub async fn subscription(&self, url: &str) -> Value {
        let id = domain::TargetUrl::parse(url).expect("a URL").subscription_id();
        self.get(&format!("/v1/subscriptions/{id}")).await
    }

    /// The status that a GET answers, if it answers.
    pub async fn status(&self, path: &str) -> Option<u16> {
        Some(self.client.get(format!("{}{path}", self.base)).send().await.ok()?.status().as_u16())
    }

    /// Posts an event and answers with what was accepted; `None` where it was not, for whatever reason.
    pub async fn try_post_event(&self, event_type: &str, data: &Value) -> Option<Posted> {
        self.try_post(event_type, data, &[]).await
    }

    /// The same under an `Idempotency-Key`.
    pub async fn try_post_event_as(&self, key: &str, event_type: &str, data: &Value) -> Option<Posted> {
        self.try_post(event_type, data, &[("idempotency-key", key)]).await
    }

    async fn try_post(&self, event_type: &str, data: &Value, headers: &[(&str, &str)]) -> Option<Posted> {
        let path = format!("/receive_event/{event_type}");
        let response = self.send(Method::POST, &path, headers, data.to_string()).await.ok()?;
        if response.status() != 200 {
            return None;
        }
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (sequence, id) = (header("event-sequence")?.parse().ok()?, header("event-id")?);
        let body = response.text().await.ok()?;
        let parsed: Value = serde_json::from_str(&body).ok()?;
        let stamp = parsed["event_received"]["event"].as_str()?.rsplit_once(':')?.1.to_owned();
        Some(Posted { sequence, id, stamp, body })
    }

    /// Posts an event, which must be accepted.
    pub async fn post_event(&self, event_type: &str, data: &Value) -> Posted {
        self.try_post_event(event_type, data).await.expect("the event is accepted")
    }

    /// Registers a URL for types, with the same attributes for each; it must be accepted. Answers with the body.
    pub async fn register(&self, url: &str, types: &[&str], attributes: &Value) -> Value {
        let mut entry = attributes.clone();
        entry["url"] = url.into();
        let events: Vec<Value> = types.iter().map(|t| json!({"event": t, "urls_to_register": [entry]})).collect();
        let response = self.post("/register_for_events/", &json!({"events_to_register": events})).await;
        let (status, body) = (response.status(), response.text().await.expect("a body"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Takes a URL off a type; it must be accepted. Answers with the body.
    pub async fn unregister(&self, url: &str, event_type: &str) -> Value {
        let body = json!({"events_to_unregister": [{"event": event_type, "urls_to_unregister": [{"url": url}]}]});
        let response = self.post("/unregister_for_events/", &body).await;
        assert_eq!(response.status(), 200);
        response.json().await.expect("JSON")
    }
}
