//! The bodies of the two original calls, `register_for_events` and `unregister_for_events`.

use std::collections::HashSet;

use domain::field_error::{self, FieldError};
use domain::{Attributes, Stamp, TargetUrl, TypePattern};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};
use web::openapi::closed_with;

use super::RegistrationAttributes;
use super::values::{optionally_with, position, position_of, target_url, type_pattern};

/// The most (event, URL) pairs in one request.
const MAX_PAIRS: usize = 1000;

/// What is to be registered: at most 1,000 pairs of event and URL
#[derive(Debug, Clone, PartialEq, ToSchema)]
#[schema(example = json!({"events_to_register": [{"event": "request_from_human", "urls_to_register": [{"url": "http://127.0.0.1:8888/hello/"}]}]}))]
#[serde(deny_unknown_fields)]
pub struct Registrations {
    /// The events, each with the URLs that are to get it
    #[schema(min_items = 1, max_items = 1000)]
    events_to_register: Vec<EventToRegister>,
}

/// A type or pattern, and where its events go
#[derive(Debug, Clone, PartialEq, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventToRegister {
    #[schema(schema_with = type_pattern)]
    event: TypePattern,
    /// The URLs that are to get its events
    #[schema(min_items = 1, max_items = 1000)]
    urls_to_register: Vec<UrlToRegister>,
}

/// A URL, with what its registration says
#[derive(Debug, Clone, PartialEq)]
pub struct UrlToRegister {
    /// Where events go.
    pub url: TargetUrl,
    /// The URL as it was written.
    pub url_as_given: String,
    /// What the registration says beside, with `expire_after` counted from when the request came.
    pub attributes: Attributes,
    /// The attributes as they were written, for the answer.
    pub attributes_as_given: Map<String, Value>,
    /// Where it stands in the request: a JSON pointer.
    pub pointer: String,
}

impl PartialSchema for UrlToRegister {
    fn schema() -> RefOr<Schema> {
        closed_with(optionally_with(RegistrationAttributes::schema(), "start_after", position()), "url", target_url())
    }
}

impl ToSchema for UrlToRegister {}

/// What is to be taken off: at most 1,000 pairs of event and URL
#[derive(Debug, Clone, PartialEq, ToSchema)]
#[schema(example = json!({"events_to_unregister": [{"event": "request_from_human", "urls_to_unregister": [{"url": "http://127.0.0.1:8888/hello/"}]}]}))]
#[serde(deny_unknown_fields)]
pub struct Unregistrations {
    /// The events, each with the URLs that are to get it no longer
    #[schema(min_items = 1, max_items = 1000)]
    events_to_unregister: Vec<EventToUnregister>,
}

/// A type or pattern, and the URLs that it is to go to no longer
#[derive(Debug, Clone, PartialEq, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventToUnregister {
    #[schema(schema_with = type_pattern)]
    event: TypePattern,
    /// The URLs that are to get its events no longer
    #[schema(min_items = 1, max_items = 1000)]
    urls_to_unregister: Vec<UrlToUnregister>,
}

/// A URL
#[derive(Debug, Clone, PartialEq, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlToUnregister {
    /// The URL that the event is registered for.
    #[schema(schema_with = target_url)]
    pub url: TargetUrl,
    /// The URL as it was written.
    #[schema(ignore)]
    pub url_as_given: String,
}

impl Registrations {
    /// Reads `{"events_to_register":[{"event":TYPE,"urls_to_register":[{"url":URL, …attributes}]}]}`.
    pub fn parse(body: &Value, now: Stamp) -> Result<Self, Vec<FieldError>> {
        let events = parse_events(body, "events_to_register", "urls_to_register", |url, object, pointer, faults| {
            let mut given = RegistrationAttributes::parse(object, &["url", "start_after"], now, pointer, faults);
            given.take_in_start(object, "start_after", position_of, pointer, faults);
            let attributes = given.resolve(now);
            let mut attributes_as_given = object.clone();
            attributes_as_given.shift_remove("url");
            if let (Some(end), true) = (attributes.datetime_end, given.expires()) {
                attributes_as_given.insert("datetime_end".to_owned(), end.to_string().into());
            }
            let (url, url_as_given) = url?;
            Some(UrlToRegister { url, url_as_given, attributes, attributes_as_given, pointer: pointer.to_owned() })
        })?;
        let event = |(event, urls_to_register)| EventToRegister { event, urls_to_register };
        Ok(Self { events_to_register: events.into_iter().map(event).collect() })
    }

    /// The pairs of event and URL, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&TypePattern, &UrlToRegister)> {
        self.events_to_register.iter().flat_map(|event| event.urls_to_register.iter().map(|url| (&event.event, url)))
    }
}

impl Unregistrations {
    /// Reads `{"events_to_unregister":[{"event":TYPE,"urls_to_unregister":[{"url":URL}]}]}`.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        let events =
            parse_events(body, "events_to_unregister", "urls_to_unregister", |url, object, pointer, faults| {
                for name in object.keys().filter(|name| *name != "url") {
                    faults.push(FieldError::at(field_error::push(pointer, name), "only `url` stands here"));
                }
                let (url, url_as_given) = url?;
                Some(UrlToUnregister { url, url_as_given })
            })?;
        let event = |(event, urls_to_unregister)| EventToUnregister { event, urls_to_unregister };
        Ok(Self { events_to_unregister: events.into_iter().map(event).collect() })
    }

    /// The pairs of event and URL, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&TypePattern, &UrlToUnregister)> {
        self.events_to_unregister
            .iter()
            .flat_map(|event| event.urls_to_unregister.iter().map(|url| (&event.event, url)))
    }
}

/// Walks a request: its events, each with its URLs. `finish` makes one of these from its URL, parsed and as it was written
/// (`None` where it is at fault), and its object, and adds what is wrong with the rest of it.
fn parse_events<T>(
    body: &Value,
    events_key: &str,
    urls_key: &str,
    finish: impl Fn(Option<(TargetUrl, String)>, &Map<String, Value>, &str, &mut Vec<FieldError>) -> Option<T>,
) -> Result<Vec<(TypePattern, Vec<T>)>, Vec<FieldError>> {
    let (mut faults, mut parsed) = (Vec::new(), Vec::new());
    let (mut seen, mut pairs) = (HashSet::new(), 0);
    for (group, group_at) in objects_of_list(body, "", events_key, &[events_key], &mut faults) {
        let pattern = required_text(group, &group_at, "event", TypePattern::parse, &mut faults);
        let group = Value::Object(group.clone());
        let mut urls = Vec::new();
        for (object, at) in objects_of_list(&group, &group_at, urls_key, &["event", urls_key], &mut faults) {
            pairs += 1;
            if pairs > MAX_PAIRS {
                faults.push(FieldError::at(at, format!("a request holds at most {MAX_PAIRS} pairs of event and URL")));
                return Err(faults);
            }
            let url = required_text(object, &at, "url", TargetUrl::parse, &mut faults);
            if let Some(pair) = pattern.clone().zip(url.as_ref().map(TargetUrl::normalised))
                && !seen.insert(pair)
            {
                faults.push(FieldError::at(at.clone(), "this event and URL stand in the request already"));
            }
            let as_given = object.get("url").and_then(Value::as_str).unwrap_or_default();
            urls.extend(finish(url.map(|url| (url, as_given.to_owned())), object, &at, &mut faults));
        }
        parsed.extend(pattern.map(|pattern| (pattern, urls)));
    }
    if faults.is_empty() { Ok(parsed) } else { Err(faults) }
}

/// The objects in the non-empty list under `key`, each with its pointer.
fn objects_of_list<'a>(
    parent: &'a Value,
    parent_at: &str,
    key: &str,
    known: &[&str],
    faults: &mut Vec<FieldError>,
) -> Vec<(&'a Map<String, Value>, String)> {
    let Value::Object(object) = parent else {
        faults.push(FieldError::at(parent_at, format!("it must be an object with `{key}`")));
        return Vec::new();
    };
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        faults.push(FieldError::at(
            field_error::push(parent_at, name),
            format!("unknown; expected: {}", known.join(", ")),
        ));
    }
    let list_at = field_error::push(parent_at, key);
    let list = match object.get(key) {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(_) => {
            faults.push(FieldError::at(list_at, "it must be a list with at least one object"));
            return Vec::new();
        }
        None => {
            faults.push(FieldError::at(list_at, "it is missing"));
            return Vec::new();
        }
    };
    let mut objects = Vec::with_capacity(list.len());
    // One more than may be is at fault by its number, if it is not for another reason.
    for (i, item) in list.iter().take(MAX_PAIRS + 1).enumerate() {
        let at = field_error::push(&list_at, i);
        match item {
            Value::Object(object) => objects.push((object, at)),
            _ => faults.push(FieldError::at(at, "it must be an object")),
        }
    }
    objects
}

fn required_text<T, E: std::fmt::Display>(
    object: &Map<String, Value>,
    at: &str,
    key: &str,
    parse: impl Fn(&str) -> Result<T, E>,
    faults: &mut Vec<FieldError>,
) -> Option<T> {
    let detail = match object.get(key) {
        Some(Value::String(text)) => match parse(text) {
            Ok(value) => return Some(value),
            Err(e) => e.to_string(),
        },
        Some(_) => "it must be a string".to_owned(),
        None => "it is missing".to_owned(),
    };
    faults.push(FieldError::at(field_error::push(at, key), detail));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::field_error::Place;
    use serde_json::json;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    fn pointers(body: &Value) -> Vec<String> {
        let faults = Registrations::parse(body, NOW).unwrap_err();
        faults
            .into_iter()
            .map(|f| match f.place {
                Place::Pointer(pointer) => pointer,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_registration_is_read_and_its_attributes_are_kept_as_written() {
        let body = json!({"events_to_register": [{"event": "order.*", "urls_to_register": [
            {"count": 1, "url": "http://HOST/in", "datetime_start": "20200101000000.0"},
            {"url": "http://host/other"},
        ]}]});
        let parsed = Registrations::parse(&body, NOW).unwrap();
        let urls: Vec<_> = parsed.pairs().map(|(_, url)| url).collect();
        assert_eq!(urls[0].url, TargetUrl::parse("http://host/in").unwrap());
        assert_eq!(urls[0].url_as_given, "http://HOST/in");
        let given = serde_json::to_string(&urls[0].attributes_as_given).unwrap();
        assert_eq!(given, r#"{"count":1,"datetime_start":"20200101000000.0"}"#);
        assert!(urls[1].attributes_as_given.is_empty());
    }

    #[test]
    fn a_position_is_stated_by_a_sequence() {
        let parse = |url: Value| {
            let body = json!({"events_to_register": [{"event": "a", "urls_to_register": [url]}]});
            Registrations::parse(&body, NOW).map(|parsed| parsed.pairs().next().unwrap().1.attributes.stated_position())
        };
        assert_eq!(parse(json!({"url": "http://h/", "start_after": 7})), Ok(Some(7)));
        assert_eq!(parse(json!({"url": "http://h/", "start_after": 0})), Ok(Some(0)));
        for bad in [json!(-1), json!("7"), json!(1.5), json!(u64::MAX), json!(null)] {
            assert!(parse(json!({"url": "http://h/", "start_after": bad})).is_err(), "{bad}");
        }
        assert!(parse(json!({"url": "http://h/", "start_after": 7, "datetime_start": "20200101000000.0"})).is_err());
        assert!(parse(json!({"url": "http://h/", "start": {"after": 7}})).is_err(), "that is the word of another call");
    }

    #[test]
    fn an_expiry_is_answered_with_the_end_that_it_sets() {
        let body = json!({"events_to_register": [{"event": "a", "urls_to_register": [{"url": "http://h/", "expire_after": 60}]}]});
        let parsed = Registrations::parse(&body, NOW).unwrap();
        let (_, url) = parsed.pairs().next().unwrap();
        let given = serde_json::to_string(&url.attributes_as_given).unwrap();
        assert_eq!(given, r#"{"expire_after":60,"datetime_end":"20231114221420.000000"}"#);
    }

    #[test]
    fn all_faults_are_named_at_once_each_with_its_place() {
        let body = json!({"events_to_register": [
            {"event": "a b", "urls_to_register": [{"url": "ftp://h/", "count": 0}, {"url": 5}, {"count": 1}, 7]},
            {"event": "ok", "urls_to_register": []},
            {"urls_to_register": [{"url": "http://h/"}, {"url": "http://h/"}], "extra": 1},
            {"event": "ok", "urls_to_register": [{"url": "http://h/"}, {"url": "http://H:80"}, {"url": "http://h/%c3%bc"}, {"url": "http://h/ü"}]},
        ]});
        assert_eq!(
            pointers(&body),
            [
                "/events_to_register/0/event",
                "/events_to_register/0/urls_to_register/3",
                "/events_to_register/0/urls_to_register/0/url",
                "/events_to_register/0/urls_to_register/0/count",
                "/events_to_register/0/urls_to_register/1/url",
                "/events_to_register/0/urls_to_register/2/url",
                "/events_to_register/1/urls_to_register",
                "/events_to_register/2/event",
                "/events_to_register/2/extra",
                "/events_to_register/3/urls_to_register/1",
                "/events_to_register/3/urls_to_register/3",
            ]
        );
    }

    #[test]
    fn a_body_of_another_shape_is_refused() {
        for (body, pointer) in [
            (json!([]), ""),
            (json!(null), ""),
            (json!({}), "/events_to_register"),
            (json!({"events_to_register": {}}), "/events_to_register"),
            (json!({"events_to_register": []}), "/events_to_register"),
            (json!({"events_to_register": ["a"]}), "/events_to_register/0"),
        ] {
            assert_eq!(pointers(&body), [pointer], "{body}");
        }
        assert!(Unregistrations::parse(&json!({"events_to_register": []})).is_err());
    }

    #[test]
    fn a_request_is_bounded() {
        let urls: Vec<Value> = (0..=MAX_PAIRS).map(|i| json!({"url": format!("http://h/{i}")})).collect();
        let body = json!({"events_to_register": [{"event": "a", "urls_to_register": urls}]});
        assert_eq!(pointers(&body), ["/events_to_register/0/urls_to_register/1000"]);
        let groups = |urls: Value| vec![json!({"event": "a", "urls_to_register": urls}); 100_000];
        assert_eq!(pointers(&json!({"events_to_register": groups(json!([]))})).len(), MAX_PAIRS + 1);
        assert_eq!(pointers(&json!({"events_to_register": vec![1; 100_000]})).len(), MAX_PAIRS + 1);
    }

    #[test]
    fn an_unregistration_mirrors_it() {
        let body = json!({"events_to_unregister": [{"event": "a", "urls_to_unregister": [{"url": "http://h/"}]}]});
        assert_eq!(Unregistrations::parse(&body).unwrap().pairs().next().unwrap().0.as_str(), "a");
        let body =
            json!({"events_to_unregister": [{"event": "a", "urls_to_unregister": [{"url": "http://h/", "count": 1}]}]});
        assert_eq!(Unregistrations::parse(&body).unwrap_err().len(), 1);
    }
}
