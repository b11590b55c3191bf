//! A subscription as it is shown: what was registered, and how far it has come.

use domain::delivery_settings::DeliverySettings;
use domain::{Attributes, SecretType, SigningSecret, Stamp, SubscriptionId, TargetUrl, TypePattern};
use serde::Serialize;
use utoipa::ToSchema;

use super::Status;
use crate::requests::secret_type;

/// Subscriptions, by id
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"subscriptions": [], "next": null}))]
pub struct SubscriptionPage {
    /// The subscriptions, at most `limit` of them
    pub subscriptions: Vec<Subscription>,
    /// The value of `after` that reads the next page; null: there is nothing more
    #[schema(value_type = Option<String>)]
    pub next: Option<SubscriptionId>,
}

/// All that a URL is registered for, and how far it has come
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "127-0-0-1-8888-hello_0123456789abcdef", "url": "http://127.0.0.1:8888/hello/", "group": null,
    "events": [{"type": "request_from_human", "priority": 100.0}], "delivery": {"mode": "ordered"}, "secrets": [],
    "status": {"state": "active", "phase": "live", "position": 17, "lag": 0, "last_delivered": 17,
        "events": {"request_from_human": {"delivered": 3, "skipped": 0, "dead_lettered": 0, "completed": false, "from_sequence": 12}},
        "last_attempt": {"sequence": 17, "at": "2026-01-31T09:30:00.000000Z", "attempt": 1, "code": 200, "duration_ms": 3}},
}))]
pub struct Subscription {
    /// The subscription's id, derived from the URL alone: letters, digits, `-` and `_`, at most 100
    #[schema(value_type = String)]
    id: SubscriptionId,
    /// Where events go
    #[schema(value_type = String)]
    url: TargetUrl,
    /// The label to find it by; null: it has none
    group: Option<String>,
    /// What it is registered for: each has a `type` (a type or a pattern) and the attributes of its registration
    #[schema(value_type = Vec<Object>)]
    events: Vec<EventShown>,
    /// How events are delivered: `mode`, and the settings that differ from their defaults
    #[schema(value_type = Object)]
    delivery: DeliverySettings,
    /// The secrets that sign deliveries now; they themselves are not shown
    secrets: Vec<Secret>,
    /// How far it has come
    status: Status,
    /// In the answer to a call that registers: whether events from before it are delivered because of it; absent elsewhere
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    replays: Option<bool>,
    /// In the answer to a call that registers: what it has not brought about, and which call does; absent where there is
    /// nothing to say
    #[schema(nullable = false, value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    /// In the answer to a redrive: how many events are delivered again because of it; absent elsewhere
    #[schema(nullable = false, value_type = Option<u64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    redriven: Option<usize>,
    #[schema(ignore)]
    #[serde(skip)]
    is_paused: bool,
}

const HINT_PAUSED: &str = "it is paused, and registering does not end that: POST /v1/subscriptions/{id}/resume does";
const HINT_NOT_AGAIN: &str = "it is registered so already, and what it has had does not come again: POST \
    /v1/subscriptions/{id}/replay brings a part of the log again, and \"start\": {\"after\": SEQUENCE} all that is behind it";

impl Subscription {
    /// The answer to a call that registered: `replays` says whether events from before it are delivered because of it, and
    /// `repeats` whether it said what was said before.
    pub fn after_registering(self, replays: bool, repeats: bool) -> Self {
        let hint = match self.is_paused {
            true => Some(HINT_PAUSED),
            false => (repeats && !replays).then_some(HINT_NOT_AGAIN),
        };
        Self { replays: Some(replays), hint, ..self }
    }

    /// The answer to a redrive of so many events.
    pub fn after_redriving(self, events: usize) -> Self {
        Self { redriven: Some(events), ..self }
    }

    /// A subscription as it stands at a moment.
    pub fn of(id: &SubscriptionId, subscription: domain::Subscription, status: Status, now: Stamp) -> Self {
        let event = |(pattern, entry): (_, domain::Entry)| EventShown {
            pattern,
            // The end that it sets is shown: what is shown can be sent back.
            attributes: Attributes { expire_after: None, ..entry.attributes },
        };
        Self {
            id: id.clone(),
            url: subscription.url,
            group: subscription.group,
            events: subscription.entries.into_iter().map(event).collect(),
            delivery: subscription.delivery,
            secrets: subscription.secrets.iter().filter(|secret| secret.is_current(now)).map(Secret::from).collect(),
            status,
            replays: None,
            hint: None,
            redriven: None,
            is_paused: subscription.paused,
        }
    }
}

/// A type or pattern, with what its registration says.
#[derive(Serialize)]
pub struct EventShown {
    #[serde(rename = "type")]
    pattern: TypePattern,
    #[serde(flatten)]
    attributes: Attributes,
}

/// A secret that signs deliveries; the secret itself is never shown
#[derive(Serialize, ToSchema)]
pub struct Secret {
    #[serde(rename = "type")]
    #[schema(schema_with = secret_type)]
    kind: SecretType,
    /// When it was made: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    created: String,
    /// When it stops signing: RFC 3339 in UTC; null: no end is set
    #[schema(format = DateTime)]
    expires: Option<String>,
    /// Of type `v1a`: the public key that verifies its signatures, `whpk_` and base64; absent for `v1`
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

impl From<&SigningSecret> for Secret {
    fn from(secret: &SigningSecret) -> Self {
        Self {
            kind: secret.kind,
            created: secret.created.to_rfc3339(),
            expires: secret.expires.map(Stamp::to_rfc3339),
            public_key: secret.public_key.clone(),
        }
    }
}

/// What verifies the signatures of a new secret: one of the two. It is shown this once
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}))]
pub struct NewSecret<'a> {
    /// Of type `v1`: the secret itself, `whsec_` and base64 of 32 bytes
    #[schema(nullable = false, pattern = "^whsec_[A-Za-z0-9+/]+=*$")]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    /// Of type `v1a`: the public key, `whpk_` and base64 of 32 bytes
    #[schema(nullable = false, pattern = "^whpk_[A-Za-z0-9+/]+=*$")]
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<&'a str>,
}

impl<'a> NewSecret<'a> {
    /// Of type `v1`.
    pub fn symmetric(secret: &'a str) -> Self {
        Self { secret: Some(secret), public_key: None }
    }

    /// Of type `v1a`: the private key stays where it is.
    pub fn asymmetric(public_key: &'a str) -> Self {
        Self { secret: None, public_key: Some(public_key) }
    }
}
