//! One request to a target, and what came of it.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use domain::event::{self, header};
use domain::lane::Due;
use domain::subscription::Test;
use domain::{Event, Subscription, SubscriptionId, header_value};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::json;

use crate::verdict::{Answer, Outcome};

/// The type of what is posted to try a target out.
const TEST_TYPE: &str = "mer.test";
/// How much of an answer is read: enough for the connection to be used again where the target says little.
const MAX_ANSWER_BYTES: usize = 4096;
/// How much of it is kept, to be shown.
const MAX_KEPT_BYTES: usize = 256;
/// How long the rest of an answer may take once its head is there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How long an unused connection is kept: less than the five seconds after which common servers close theirs.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Pushes events to targets. Clones share their connections.
#[derive(Clone)]
pub struct Pusher {
    client: Client,
}

impl Pusher {
    /// A pusher that gives a target so long to answer, connecting included.
    ///
    /// It follows no redirects, and reads no proxy from the environment.
    pub fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .timeout(timeout)
                .connect_timeout(timeout)
                .pool_idle_timeout(IDLE_CONNECTION)
                .redirect(Policy::none())
                .no_proxy()
                .user_agent(concat!("mer/", env!("CARGO_PKG_VERSION")))
        };
        let client = builder().build().or_else(|error| {
            // A machine without certificates of authorities still serves targets of plain http.
            tracing::warn!(reason = reason(&error), "tls.no_authorities_known_https_targets_will_fail");
            builder().tls_certs_only([]).build()
        });
        Ok(Self { client: client? })
    }

    /// Posts an event to a subscription's target. `previous` is the sequence that was delivered there before it, 0 for
    /// none.
    pub async fn push(&self, subscription: &Subscription, event: &Event, due: &Due, previous: u64) -> Outcome {
        self.send(subscription, headers(event, due, previous), due.data.clone()).await
    }

    /// Posts what is no event, for the sake of the answer: a CloudEvent of type `mer.test` without a sequence.
    pub async fn push_test(&self, id: &SubscriptionId, subscription: &Subscription, test: &Test) -> Outcome {
        let data = json!({"message": "a test: nothing has happened", "subscription": id});
        self.send(subscription, test_headers(id, test), data.to_string().into()).await
    }

    async fn send(&self, subscription: &Subscription, headers: HeaderMap, body: Bytes) -> Outcome {
        let url = subscription.url.as_url().clone();
        let mut request = self.client.post(url).headers(headers).body(body);
        if let Some(timeout_ms) = subscription.delivery.timeout_ms {
            request = request.timeout(Duration::from_millis(timeout_ms));
        }
        match request.send().await {
            Ok(response) => {
                let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
                let (retry_after, resume_after) = (header("retry-after"), header("resume-after"));
                let status = response.status().as_u16();
                Outcome::Answered(Answer { status, retry_after, resume_after, body: beginning_of(response).await })
            }
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}

/// CloudEvents binary mode: the event's own attributes, and what is true of this delivery.
fn headers(event: &Event, due: &Due, previous: u64) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(event.headers.len() + 3);
    for (name, value) in &event.headers {
        // Names and values were made safe when the event was read; one that a plain client made up and HTTP cannot
        // carry is left out rather than holding the lane for ever.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::SEQUENCE, twenty_digits(event.sequence));
    headers.insert(header::PREVIOUS_SEQUENCE, twenty_digits(previous));
    headers.insert(header::REPLAY, HeaderValue::from_static(if due.is_replay { "true" } else { "false" }));
    if let Some(listener_data) = &due.listener_data {
        let value = header_value::encode(&listener_data.to_string()).into_owned();
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(header::LISTENER_DATA, value);
        }
    }
    headers
}

fn test_headers(id: &SubscriptionId, test: &Test) -> HeaderMap {
    let (source, time) = (format!("/v1/subscriptions/{id}"), test.asked_at.to_rfc3339());
    let pairs = [
        (header::SPEC_VERSION, event::SPEC_VERSION),
        (header::ID, &test.id),
        (header::SOURCE, &source),
        (header::TYPE, TEST_TYPE),
        (header::TIME, &time),
        (header::CONTENT_TYPE, event::JSON),
    ];
    let pair = |(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?));
    pairs.into_iter().filter_map(pair).collect()
}

fn twenty_digits(sequence: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{sequence:020}")).unwrap_or_else(|_| HeaderValue::from(sequence))
}

/// How an answer begins. It is read to its end if that is near; otherwise the connection is closed with it.
async fn beginning_of(mut response: Response) -> String {
    let mut beginning = Vec::new();
    let read = async {
        while beginning.len() < MAX_ANSWER_BYTES
            && let Ok(Some(chunk)) = response.chunk().await
        {
            beginning.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES)]);
        }
    };
    // The verdict is known by now, whatever becomes of the rest.
    let _ = tokio::time::timeout(ANSWER_DEADLINE, read).await;
    beginning.truncate(MAX_KEPT_BYTES);
    String::from_utf8_lossy(&beginning).into_owned()
}

/// Why there was no answer, to the root of it, without the URL: that may hold secrets.
fn reason(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "could not connect"
    } else {
        "broke off"
    };
    let mut root: Option<&(dyn Error + 'static)> = error.source();
    while let Some(deeper) = root.and_then(Error::source) {
        root = Some(deeper);
    }
    match root {
        Some(root) => format!("{kind}: {root}"),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Stamp;

    #[test]
    fn a_delivery_carries_the_events_attributes_and_its_own() {
        let given = [("ce-id", "x"), ("ce-sequence", "9"), ("content-type", "application/json; charset=utf-8")];
        let at = Stamp::from_micros(0);
        let event = Event::from_message("EVENTS", "events.größe", 7, at, given, Bytes::from("{}")).unwrap();
        let listener_data = Some(serde_json::json!({"a": "ü"}));
        let due = Due { is_replay: true, priority: 1.0, listener_data, data: event.data.clone() };
        let headers = headers(&event, &due, 5);
        for (name, value) in [
            ("ce-id", "x"),
            ("ce-type", "gr%C3%B6%C3%9Fe"),
            ("ce-sequence", "00000000000000000007"),
            ("ce-previoussequence", "00000000000000000005"),
            ("ce-replay", "true"),
            ("ce-listenerdata", "{%22a%22:%22%C3%BC%22}"),
            ("content-type", "application/json; charset=utf-8"),
        ] {
            assert_eq!(headers[name], value);
        }
    }
}
