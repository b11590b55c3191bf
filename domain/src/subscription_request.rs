//! The bodies of `PUT` and `PATCH` on a subscription, of its `replay` and its `rotate-secret`, read with every fault
//! named.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::attributes::{Attributes, whole_number};
use crate::delivery_settings::DeliveryChange;
use crate::field_error::{self, FieldError};
use crate::stamp::Stamp;
use crate::target_url::TargetUrl;
use crate::type_pattern::TypePattern;
use crate::webhook_secret::SecretType;

/// The longest `group`, in bytes.
pub const MAX_GROUP_BYTES: usize = 100;
/// How long the secrets there were go on signing, in seconds, where nothing is said.
pub const DEFAULT_GRACE_SECS: u64 = 86_400;
/// The longest that they may, in seconds: 30 days.
pub const MAX_GRACE_SECS: u64 = 2_592_000;

/// What a subscription is to be. What is `None` stays as it is (`PATCH`) or is not set (`PUT`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscriptionRequest {
    /// Where events go; `PUT` has it, `PATCH` does not.
    pub url: Option<TargetUrl>,
    /// All that is wanted, each with the JSON pointer of where it stands.
    pub events: Option<BTreeMap<TypePattern, (Attributes, String)>>,
    /// A label; `Some(None)` takes it away.
    pub group: Option<Option<String>>,
    /// What changes of how events are delivered.
    pub delivery: DeliveryChange,
}

/// The part of the log that is to be delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRequest {
    /// Its first moment.
    pub from: Stamp,
    /// Its last moment; `None`: up to now.
    pub to: Option<Stamp>,
}

/// A new secret that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationRequest {
    /// How it signs.
    pub kind: SecretType,
    /// How long the secrets there are go on signing.
    pub grace: Duration,
}

impl SubscriptionRequest {
    /// Reads `{"url","events":[{"type",…attributes}],"group","delivery":{…}}`, where `url` and
    /// `events` must be there.
    pub fn parse_put(body: &Value, now: Stamp) -> Result<Self, Vec<FieldError>> {
        Self::parse(body, now, true)
    }

    /// Reads the same without `url`, where everything may be left out.
    pub fn parse_patch(body: &Value, now: Stamp) -> Result<Self, Vec<FieldError>> {
        Self::parse(body, now, false)
    }

    fn parse(body: &Value, now: Stamp, is_put: bool) -> Result<Self, Vec<FieldError>> {
        let Value::Object(body) = body else {
            return Err(vec![FieldError::at("", "a subscription is a JSON object")]);
        };
        let (mut request, mut faults) = (Self::default(), Vec::new());
        for name in ["url", "events"] {
            if is_put && !body.contains_key(name) {
                faults.push(FieldError::at(format!("/{name}"), "it is missing"));
            }
        }
        for (name, value) in body {
            let result = match name.as_str() {
                "url" if is_put => url_of(value).map(|url| request.url = Some(url)),
                "url" => Err("the URL is what a subscription is: make another one with PUT".to_owned()),
                "events" => {
                    request.events = Some(events_of(value, now, &mut faults));
                    Ok(())
                }
                "group" => group_of(value).map(|group| request.group = Some(group)),
                "delivery" => {
                    request.delivery = DeliveryChange::parse(value, &mut faults);
                    Ok(())
                }
                _ => Err("it is unknown; expected: url, events, group, delivery".to_owned()),
            };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push("", name), detail));
            }
        }
        if faults.is_empty() { Ok(request) } else { Err(faults) }
    }
}

impl ReplayRequest {
    /// Reads `{"from":…,"to":…}`; `to` may be left out.
    pub fn parse(body: &Value, now: Stamp) -> Result<Self, Vec<FieldError>> {
        let Value::Object(body) = body else {
            return Err(vec![FieldError::at("", "it must be a JSON object with `from`")]);
        };
        let mut faults = Vec::new();
        let mut moment = |name: &str| {
            let parsed = match body.get(name)? {
                Value::String(text) => Stamp::parse(text).map_err(|error| error.to_string()),
                _ => Err("a moment is a string: a stamp or RFC 3339".to_owned()),
            };
            parsed.map_err(|detail| faults.push(FieldError::at(format!("/{name}"), detail))).ok()
        };
        let (from, to) = (moment("from"), moment("to"));
        if !body.contains_key("from") {
            faults.push(FieldError::at("/from", "it is missing"));
        }
        for name in body.keys().filter(|name| !matches!(name.as_str(), "from" | "to")) {
            faults.push(FieldError::at(field_error::push("", name), "it is unknown; expected: from, to"));
        }
        if from.is_some_and(|from| from > now) {
            faults.push(FieldError::at("/from", "it is in the future: there is nothing to deliver again"));
        }
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            faults.push(FieldError::at("/to", format!("it is before `from`, {from}")));
        }
        match (from, faults.is_empty()) {
            (Some(from), true) => Ok(Self { from, to }),
            _ => Err(faults),
        }
    }
}

impl RotationRequest {
    /// Reads `{"type":"v1"|"v1a","grace_secs":…}`; both may be left out.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        let Value::Object(body) = body else {
            return Err(vec![FieldError::at("", "it must be a JSON object, or be left out")]);
        };
        let (mut request, mut faults) = (Self::default(), Vec::new());
        for (name, value) in body {
            let result = match name.as_str() {
                "type" => match value.as_str().and_then(SecretType::parse) {
                    Some(kind) => {
                        request.kind = kind;
                        Ok(())
                    }
                    None => Err("it must be `v1` (HMAC-SHA256) or `v1a` (ed25519)".to_owned()),
                },
                "grace_secs" => match whole_number(value) {
                    Some(seconds @ 0..=MAX_GRACE_SECS) => {
                        request.grace = Duration::from_secs(seconds);
                        Ok(())
                    }
                    _ => Err(format!("it must be a whole number from 0 to {MAX_GRACE_SECS}")),
                },
                _ => Err("it is unknown; expected: type, grace_secs".to_owned()),
            };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push("", name), detail));
            }
        }
        if faults.is_empty() { Ok(request) } else { Err(faults) }
    }
}

impl Default for RotationRequest {
    fn default() -> Self {
        Self { kind: SecretType::default(), grace: Duration::from_secs(DEFAULT_GRACE_SECS) }
    }
}

fn url_of(value: &Value) -> Result<TargetUrl, String> {
    TargetUrl::parse(value.as_str().ok_or("it must be a string")?).map_err(|error| error.to_string())
}

fn events_of(value: &Value, now: Stamp, faults: &mut Vec<FieldError>) -> BTreeMap<TypePattern, (Attributes, String)> {
    let mut events = BTreeMap::new();
    let list = match value {
        Value::Array(list) if !list.is_empty() => list.as_slice(),
        _ => {
            faults.push(FieldError::at("/events", "it must be a list with at least one object"));
            &[]
        }
    };
    for (i, item) in list.iter().enumerate() {
        let at = field_error::push("/events", i);
        let Value::Object(object) = item else {
            faults.push(FieldError::at(at, "it must be an object with `type`"));
            continue;
        };
        let attributes = Attributes::parse(object, &["type"], now, &at, faults);
        let pattern = match object.get("type").map(Value::as_str) {
            Some(Some(text)) => TypePattern::parse(text).map_err(|error| error.to_string()),
            Some(None) => Err("it must be a string".to_owned()),
            None => Err("it is missing".to_owned()),
        };
        match pattern {
            Ok(pattern) => {
                if events.insert(pattern, (attributes, at.clone())).is_some() {
                    faults.push(FieldError::at(field_error::push(&at, "type"), "it stands in the list already"));
                }
            }
            Err(detail) => faults.push(FieldError::at(field_error::push(&at, "type"), detail)),
        }
    }
    events
}

fn group_of(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if !text.is_empty() && text.len() <= MAX_GROUP_BYTES => Ok(Some(text.clone())),
        _ => Err(format!("it must be a string of 1 to {MAX_GROUP_BYTES} bytes, or null")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery_settings::DeliverySettings;
    use serde_json::json;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    fn pointers<T: std::fmt::Debug>(result: Result<T, Vec<FieldError>>) -> Vec<String> {
        let of = |fault: FieldError| serde_json::to_value(fault).unwrap()["pointer"].as_str().unwrap().to_owned();
        result.unwrap_err().into_iter().map(of).collect()
    }

    #[test]
    fn a_subscription_is_read_whole_or_in_part() {
        let body = json!({"url": "http://h/", "events": [{"type": "a.*", "count": 2}], "group": "g", "delivery": {"mode": "ordered", "timeout_ms": 5}});
        let put = SubscriptionRequest::parse_put(&body, NOW).unwrap();
        let mut settings = DeliverySettings::default();
        put.delivery.apply(&mut settings);
        assert_eq!((put.group, settings.timeout_ms), (Some(Some("g".into())), Some(5)));
        assert_eq!(put.events.unwrap().values().next().unwrap().0.count, Some(2));
        let patch = SubscriptionRequest::parse_patch(&json!({"group": null}), NOW).unwrap();
        assert_eq!(patch, SubscriptionRequest { group: Some(None), ..SubscriptionRequest::default() });
    }

    #[test]
    fn every_fault_is_named() {
        let put = |body: &Value| pointers(SubscriptionRequest::parse_put(body, NOW));
        assert_eq!(put(&json!([])), [""]);
        assert_eq!(put(&json!({})), ["/url", "/events"]);
        let body = json!({"url": "ftp://h", "events": [{"type": "a b", "count": 0}, 5, {}, {"type": "x"}, {"type": "x"}],
            "group": "", "delivery": {"mode": "chaotic", "timeout_ms": 0, "rate": 1}, "notify": []});
        assert_eq!(
            put(&body),
            [
                "/url",
                "/events/0/count",
                "/events/0/type",
                "/events/1",
                "/events/2/type",
                "/events/4/type",
                "/group",
                "/delivery/mode",
                "/delivery/timeout_ms",
                "/delivery/rate",
                "/notify",
            ]
        );
        assert_eq!(pointers(SubscriptionRequest::parse_patch(&json!({"url": "http://h/"}), NOW)), ["/url"]);
    }

    #[test]
    fn a_rotation_says_which_type_and_how_long_the_others_stay() {
        let rotation = |kind, seconds| RotationRequest { kind, grace: Duration::from_secs(seconds) };
        for (body, request) in [
            (json!({}), rotation(SecretType::V1, 86_400)),
            (json!({"type": "v1a"}), rotation(SecretType::V1a, 86_400)),
            (json!({"type": "v1", "grace_secs": 0}), rotation(SecretType::V1, 0)),
            (json!({"grace_secs": MAX_GRACE_SECS}), rotation(SecretType::V1, MAX_GRACE_SECS)),
        ] {
            assert_eq!(RotationRequest::parse(&body), Ok(request), "{body}");
        }
        for (body, faults) in [
            (json!([]), &[""][..]),
            (
                json!({"type": "v2", "grace_secs": MAX_GRACE_SECS + 1, "secret": "x"}),
                &["/type", "/grace_secs", "/secret"],
            ),
            (json!({"type": null, "grace_secs": -1}), &["/type", "/grace_secs"]),
        ] {
            assert_eq!(pointers(RotationRequest::parse(&body)), faults, "{body}");
        }
    }

    #[test]
    fn a_replay_has_a_beginning_in_the_past() {
        let parse = |body: Value| ReplayRequest::parse(&body, NOW);
        assert!(parse(json!({"from": "20200101000000.0"})).is_ok());
        assert_eq!(pointers(parse(json!({"to": "20200101000000.0", "x": 1}))), ["/from", "/x"]);
        assert_eq!(pointers(parse(json!({"from": "20990101000000.0"}))), ["/from"]);
        assert_eq!(pointers(parse(json!({"from": "20200102000000.0", "to": "20200101000000.0"}))), ["/to"]);
    }
}
