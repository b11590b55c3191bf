//! The bodies of the seed's two calls, `register_for_events` and `unregister_for_events`, read with every fault named.

use serde_json::{Map, Value};

use crate::attributes::Attributes;
use crate::field_error::{self, FieldError};
use crate::stamp::Stamp;
use crate::target_url::TargetUrl;
use crate::type_pattern::TypePattern;

/// The most (event, URL) pairs in one request.
pub const MAX_PAIRS: usize = 1000;

/// One (event, URL) pair of a registering request.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Where it stands in the request: a JSON pointer.
    pub pointer: String,
    /// What is asked for.
    pub pattern: TypePattern,
    /// Where it is to be delivered.
    pub url: TargetUrl,
    /// The URL as it was written.
    pub url_as_given: String,
    /// The attributes, checked.
    pub attributes: Attributes,
    /// The attributes as they were written, for the answer.
    pub attributes_as_given: Map<String, Value>,
}

/// One (event, URL) pair of an unregistering request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unregistration {
    /// The type or pattern, as it was registered.
    pub pattern: TypePattern,
    /// The URL it was registered for.
    pub url: TargetUrl,
    /// The URL as it was written.
    pub url_as_given: String,
}

/// Reads `{"events_to_register":[{"event":TYPE,"urls_to_register":[{"url":URL, …attributes}]}]}`.
pub fn parse_registrations(body: &Value, now: Stamp) -> Result<Vec<Registration>, Vec<FieldError>> {
    parse_pairs(body, "events_to_register", "urls_to_register", |pair, object, pointer, faults| {
        let attributes = Attributes::parse(object, &["url"], now, pointer, faults);
        let mut attributes_as_given = object.clone();
        attributes_as_given.shift_remove("url");
        if let (Some(end), true) = (attributes.datetime_end, object.contains_key("expire_after")) {
            attributes_as_given.insert("datetime_end".to_owned(), end.to_string().into());
        }
        let Pair { pattern, url, url_as_given } = pair?;
        Some(Registration { pointer: pointer.to_owned(), pattern, url, url_as_given, attributes, attributes_as_given })
    })
}

/// Reads `{"events_to_unregister":[{"event":TYPE,"urls_to_unregister":[{"url":URL}]}]}`.
pub fn parse_unregistrations(body: &Value) -> Result<Vec<Unregistration>, Vec<FieldError>> {
    parse_pairs(body, "events_to_unregister", "urls_to_unregister", |pair, object, pointer, faults| {
        for name in object.keys().filter(|name| *name != "url") {
            faults.push(FieldError::at(field_error::push(pointer, name), "only `url` stands here"));
        }
        let Pair { pattern, url, url_as_given } = pair?;
        Some(Unregistration { pattern, url, url_as_given })
    })
}

struct Pair {
    pattern: TypePattern,
    url: TargetUrl,
    url_as_given: String,
}

/// Walks a request's pairs. `finish` makes one of them from its event and URL (`None` where either is at fault) and
/// its object, and adds what is wrong with the rest of it.
fn parse_pairs<T>(
    body: &Value,
    events_key: &str,
    urls_key: &str,
    finish: impl Fn(Option<Pair>, &Map<String, Value>, &str, &mut Vec<FieldError>) -> Option<T>,
) -> Result<Vec<T>, Vec<FieldError>> {
    let mut faults = Vec::new();
    let mut parsed = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut pairs = 0;
    for (group, group_at) in objects_of_list(body, "", events_key, &[events_key], &mut faults) {
        let pattern = required_text(group, &group_at, "event", TypePattern::parse, &mut faults);
        let group = Value::Object(group.clone());
        for (object, at) in objects_of_list(&group, &group_at, urls_key, &["event", urls_key], &mut faults) {
            pairs += 1;
            if pairs > MAX_PAIRS {
                faults.push(FieldError::at(at, format!("a request holds at most {MAX_PAIRS} pairs of event and URL")));
                return Err(faults);
            }
            let url = required_text(object, &at, "url", TargetUrl::parse, &mut faults);
            let pair = pattern.clone().zip(url).map(|(pattern, url)| Pair {
                pattern,
                url,
                url_as_given: object["url"].as_str().unwrap_or_default().to_owned(),
            });
            if let Some(Pair { pattern, url, .. }) = &pair
                && !seen.insert((pattern.clone(), url.clone()))
            {
                faults.push(FieldError::at(at.clone(), "this event and URL stand in the request already"));
            }
            parsed.extend(finish(pair, object, &at, &mut faults));
        }
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
    for (i, item) in list.iter().enumerate() {
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
    use crate::field_error::Place;
    use serde_json::json;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    fn pointers(body: &Value) -> Vec<String> {
        let faults = parse_registrations(body, NOW).unwrap_err();
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
        let parsed = parse_registrations(&body, NOW).unwrap();
        assert_eq!(parsed[0].url, TargetUrl::parse("http://host/in").unwrap());
        assert_eq!(parsed[0].url_as_given, "http://HOST/in");
        let given = serde_json::to_string(&parsed[0].attributes_as_given).unwrap();
        assert_eq!(given, r#"{"count":1,"datetime_start":"20200101000000.0"}"#);
        assert!(parsed[1].attributes_as_given.is_empty());
    }

    #[test]
    fn an_expiry_is_answered_with_the_end_that_it_sets() {
        let body = json!({"events_to_register": [{"event": "a", "urls_to_register": [{"url": "http://h/", "expire_after": 60}]}]});
        let parsed = parse_registrations(&body, NOW).unwrap();
        let given = serde_json::to_string(&parsed[0].attributes_as_given).unwrap();
        assert_eq!(given, r#"{"expire_after":60,"datetime_end":"20231114221420.000000"}"#);
    }

    #[test]
    fn all_faults_are_named_at_once_each_with_its_place() {
        let body = json!({"events_to_register": [
            {"event": "a b", "urls_to_register": [{"url": "ftp://h/", "count": 0}, {"url": 5}, {"count": 1}, 7]},
            {"event": "ok", "urls_to_register": []},
            {"urls_to_register": [{"url": "http://h/"}, {"url": "http://h/"}], "extra": 1},
            {"event": "ok", "urls_to_register": [{"url": "http://h/"}, {"url": "http://H:80"}]},
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
        assert!(parse_unregistrations(&json!({"events_to_register": []})).is_err());
    }

    #[test]
    fn a_request_is_bounded() {
        let urls: Vec<Value> = (0..=MAX_PAIRS).map(|i| json!({"url": format!("http://h/{i}")})).collect();
        let body = json!({"events_to_register": [{"event": "a", "urls_to_register": urls}]});
        assert_eq!(pointers(&body), ["/events_to_register/0/urls_to_register/1000"]);
    }

    #[test]
    fn an_unregistration_mirrors_it() {
        let body = json!({"events_to_unregister": [{"event": "a", "urls_to_unregister": [{"url": "http://h/"}]}]});
        assert_eq!(parse_unregistrations(&body).unwrap()[0].pattern.as_str(), "a");
        let body =
            json!({"events_to_unregister": [{"event": "a", "urls_to_unregister": [{"url": "http://h/", "count": 1}]}]});
        assert_eq!(parse_unregistrations(&body).unwrap_err().len(), 1);
    }
}
