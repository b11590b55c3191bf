//! The bodies of `PUT` and `PATCH` on a subscription.

use std::collections::BTreeSet;

use domain::attributes::StartAt;
use domain::field_error::{self, FieldError};
use domain::{Attributes, Stamp, TargetUrl, TypePattern};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};
use web::openapi::closed_with;

use super::values::{MAX_ENTRIES, optionally_with, start_of, start_that, target_url, type_pattern};
use super::{DeliveryChange, RegistrationAttributes};

/// The longest `group`, in bytes.
const MAX_GROUP_BYTES: usize = 100;

/// All that a URL is to be registered for
#[derive(Debug, Clone, PartialEq, ToSchema)]
#[schema(example = json!({"url": "http://127.0.0.1:8888/hello/", "events": [{"type": "request_from_human"}], "group": "greeters", "delivery": {"mode": "ordered", "timeout_ms": 5000}}))]
#[serde(deny_unknown_fields)]
pub struct SubscriptionToPut {
    /// Where events go.
    #[schema(schema_with = target_url)]
    pub url: TargetUrl,
    /// All that is wanted: what is not named here is registered no longer
    #[schema(min_items = 1, max_items = 1000)]
    pub events: Vec<EventWanted>,
    #[schema(required = false, schema_with = start_of_all)]
    start: Option<StartAt>,
    /// A label to find it by; left out or null: none
    #[schema(min_length = 1, max_length = 100)]
    pub group: Option<String>,
    /// How events are delivered; what is left out is as by default
    #[schema(nullable = false, value_type = Option<DeliveryChange>)]
    pub delivery: DeliveryChange,
}

/// What is to change of a subscription; what is left out stays
#[derive(Debug, Clone, Default, PartialEq, ToSchema)]
#[schema(example = json!({"group": "greeters"}))]
#[serde(deny_unknown_fields)]
pub struct SubscriptionPatch {
    /// All that is wanted: what is not named here is registered no longer
    #[schema(nullable = false, min_items = 1, max_items = 1000)]
    pub events: Option<Vec<EventWanted>>,
    /// Where in the log all that is registered begins anew, where no events are named.
    #[schema(required = false, schema_with = start_of_all)]
    pub start: Option<StartAt>,
    /// A label to find it by; null takes it away
    #[schema(min_length = 1, max_length = 100, value_type = Option<String>)]
    pub group: Option<Option<String>>,
    /// What changes of how events are delivered
    #[schema(nullable = false, value_type = Option<DeliveryChange>)]
    pub delivery: DeliveryChange,
}

/// What is wanted, and what a registration says beside
#[derive(Debug, Clone, PartialEq)]
pub struct EventWanted {
    /// Which events.
    pub pattern: TypePattern,
    /// What the registration says beside, with `expire_after` counted from when the request came.
    pub attributes: Attributes,
    /// Where it stands in the request: a JSON pointer.
    pub pointer: String,
    /// Where its `start` stands, which may be that of the whole subscription.
    pub start_pointer: String,
}

impl PartialSchema for EventWanted {
    fn schema() -> RefOr<Schema> {
        closed_with(
            optionally_with(RegistrationAttributes::schema(), "start", start_that("Where in the log to begin")),
            "type",
            type_pattern(),
        )
    }
}

impl ToSchema for EventWanted {}

fn start_of_all() -> RefOr<Schema> {
    start_that("Where in the log all events begin that do not say it themselves")
}

impl SubscriptionToPut {
    /// Reads `{"url","events":[{"type",…attributes}],"group","delivery":{…}}`, where `url` and `events` must be there.
    pub fn parse(body: &Value, now: Stamp) -> Result<Self, Vec<FieldError>> {
        let body = object(body)?;
        let missing = ["url", "events"].into_iter().filter(|name| !body.contains_key(*name));
        let mut faults: Vec<_> = missing.map(|name| FieldError::at(format!("/{name}"), "it is missing")).collect();
        let (mut url, mut members) = (None, Members::default());
        for (name, value) in body {
            let result = match name.as_str() {
                "url" => url_of(value).map(|parsed| url = Some(parsed)),
                _ => members.take_in(name, value, now, &mut faults),
            };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push("", name), detail));
            }
        }
        members.share_start();
        let Members { events, start, group, delivery } = members;
        match (url, events, faults.is_empty()) {
            (Some(url), Some(events), true) => Ok(Self { url, events, start, group: group.flatten(), delivery }),
            _ => Err(faults),
        }
    }
}

impl SubscriptionPatch {
    /// Reads `{"events":[{"type",…attributes}],"group","delivery":{…}}`, where everything may be left out.
    pub fn parse(body: &Value, now: Stamp) -> Result<Self, Vec<FieldError>> {
        let (mut faults, mut members) = (Vec::new(), Members::default());
        let body = without_nulls_of_events(object(body)?);
        for (name, value) in &body {
            let result = match name.as_str() {
                "url" => Err("the URL is what a subscription is: make another one with PUT".to_owned()),
                _ => members.take_in(name, value, now, &mut faults),
            };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push("", name), detail));
            }
        }
        members.share_start();
        let Members { events, start, group, delivery } = members;
        if faults.is_empty() { Ok(Self { events, start, group, delivery }) } else { Err(faults) }
    }
}

/// What both requests may say.
#[derive(Default)]
struct Members {
    events: Option<Vec<EventWanted>>,
    start: Option<StartAt>,
    group: Option<Option<String>>,
    delivery: DeliveryChange,
}

impl Members {
    /// Has all events begin where the subscription says, but those that say it themselves.
    fn share_start(&mut self) {
        let Some(start) = self.start else { return };
        for event in self.events.iter_mut().flatten().filter(|event| !event.attributes.names_start()) {
            event.attributes.start = Some(start);
            event.start_pointer = "/start".to_owned();
        }
    }

    /// Reads a member by its name. Answers what is wrong with it itself; what is wrong inside of it is added to `faults`.
    fn take_in(&mut self, name: &str, value: &Value, now: Stamp, faults: &mut Vec<FieldError>) -> Result<(), String> {
        match name {
            "events" => self.events = Some(events_of(value, now, faults)),
            "start" => self.start = Some(start_of(value)?),
            "group" => self.group = Some(group_of(value)?),
            "delivery" => self.delivery = DeliveryChange::parse(value, faults),
            _ => return Err("it is unknown; expected: url, events, start, group, delivery".to_owned()),
        }
        Ok(())
    }
}

/// In a merge patch (RFC 7396) null takes a member away: an attribute that is null is as one that is left out.
fn without_nulls_of_events(body: &Map<String, Value>) -> Map<String, Value> {
    let mut body = body.clone();
    if let Some(Value::Array(events)) = body.get_mut("events") {
        events.iter_mut().filter_map(Value::as_object_mut).for_each(|event| event.retain(|_, value| !value.is_null()));
    }
    body
}

fn object(body: &Value) -> Result<&Map<String, Value>, Vec<FieldError>> {
    body.as_object().ok_or_else(|| vec![FieldError::at("", "a subscription is a JSON object")])
}

fn url_of(value: &Value) -> Result<TargetUrl, String> {
    TargetUrl::parse(value.as_str().ok_or("it must be a string")?).map_err(|error| error.to_string())
}

fn events_of(value: &Value, now: Stamp, faults: &mut Vec<FieldError>) -> Vec<EventWanted> {
    let (mut events, mut seen) = (Vec::new(), BTreeSet::new());
    let list = match value {
        Value::Array(list) if list.len() > MAX_ENTRIES => {
            let detail = format!("it has {} types and patterns; at most {MAX_ENTRIES} are kept for a URL", list.len());
            faults.push(FieldError::at("/events", detail));
            &[]
        }
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
        let mut given = RegistrationAttributes::parse(object, &["type", "start"], now, &at, faults);
        given.take_in_start(object, "start", start_of, &at, faults);
        let attributes = given.resolve(now);
        match pattern_of(object) {
            Ok(pattern) if !seen.insert(pattern.clone()) => {
                faults.push(FieldError::at(field_error::push(&at, "type"), "it stands in the list already"));
            }
            Ok(pattern) => {
                let start_pointer = field_error::push(&at, "start");
                events.push(EventWanted { pattern, attributes, pointer: at, start_pointer });
            }
            Err(detail) => faults.push(FieldError::at(field_error::push(&at, "type"), detail)),
        }
    }
    events
}

fn pattern_of(object: &Map<String, Value>) -> Result<TypePattern, String> {
    match object.get("type").map(Value::as_str) {
        Some(Some(text)) => TypePattern::parse(text).map_err(|error| error.to_string()),
        Some(None) => Err("it must be a string".to_owned()),
        None => Err("it is missing".to_owned()),
    }
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
    use super::super::pointers;
    use super::*;
    use domain::delivery_settings::DeliverySettings;
    use serde_json::json;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_subscription_is_read_whole_or_in_part() {
        let body = json!({"url": "http://h/", "events": [{"type": "a.*", "count": 2}], "group": "g", "delivery": {"mode": "ordered", "timeout_ms": 5}});
        let put = SubscriptionToPut::parse(&body, NOW).unwrap();
        let mut settings = DeliverySettings::default();
        put.delivery.apply(&mut settings);
        assert_eq!((put.group, settings.timeout_ms), (Some("g".into()), Some(5)));
        assert_eq!(put.events[0].attributes.count, Some(2));
        let patch = SubscriptionPatch::parse(&json!({"group": null}), NOW).unwrap();
        assert_eq!(patch, SubscriptionPatch { group: Some(None), ..SubscriptionPatch::default() });
    }

    #[test]
    fn a_start_of_the_whole_holds_for_the_events_that_say_none_themselves() {
        let body = json!({"url": "http://h/", "start": {"after": 7}, "events": [
            {"type": "a"}, {"type": "b", "start": {"after": 3}}, {"type": "c", "datetime_start": "20200101000000.0"}]});
        let put = SubscriptionToPut::parse(&body, NOW).unwrap();
        let stated: Vec<_> = put.events.iter().map(|event| event.attributes.stated_position()).collect();
        assert_eq!(stated, [Some(7), Some(3), None]);
        assert_eq!([&put.events[0].start_pointer, &put.events[1].start_pointer], ["/start", "/events/1/start"]);
        let patch = SubscriptionPatch::parse(&json!({"start": {"after": 7}}), NOW).unwrap();
        assert_eq!(patch.start, Some(StartAt::After(7)));
        for bad in [json!(7), json!({}), json!({"after": -1}), json!({"after": 1, "time": 2}), json!("now")] {
            assert_eq!(pointers(SubscriptionPatch::parse(&json!({"start": bad}), NOW)), ["/start"], "{bad}");
        }
        let both = json!({"events": [{"type": "a", "start": {"after": 1}, "datetime_start": "20200101000000.0"}]});
        assert_eq!(pointers(SubscriptionPatch::parse(&both, NOW)), ["/events/0/start"]);
    }

    #[test]
    fn a_patch_takes_away_what_is_null() {
        let events = json!([{"type": "a", "count": null, "datetime_start": null, "listener_data": null}]);
        let patch = SubscriptionPatch::parse(&json!({"events": events, "delivery": {"mode": null}}), NOW).unwrap();
        assert_eq!(patch.events.unwrap()[0].attributes, Attributes::default());
        assert!(
            SubscriptionPatch::parse(&json!({"events": null}), NOW).is_err(),
            "a subscription without events is none"
        );
        let put = SubscriptionToPut::parse(&json!({"url": "http://h/", "events": events}), NOW);
        assert_eq!(pointers(put), ["/events/0/count", "/events/0/datetime_start"], "what is put is whole");
    }

    #[test]
    fn every_fault_is_named() {
        let put = |body: &Value| pointers(SubscriptionToPut::parse(body, NOW));
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
        assert_eq!(pointers(SubscriptionPatch::parse(&json!({"url": "http://h/"}), NOW)), ["/url"]);
        let many = json!({"events": vec![1; 500_000]});
        assert_eq!(pointers(SubscriptionPatch::parse(&many, NOW)), ["/events"]);
    }
}
