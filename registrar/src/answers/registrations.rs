//! The answers of `/register_for_events/` and `/unregister_for_events/`.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Pairs of event and URL in the order of the request, each with what it says: `{TYPE:{URL:{…attributes}}}`.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Pairs(Map<String, Value>);

impl Pairs {
    /// Adds a pair; the attributes of one that is there already are replaced.
    pub fn put(&mut self, event: &str, url: &str, attributes: Map<String, Value>) {
        let urls = self.0.entry(event).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(urls) = urls {
            urls.insert(url.to_owned(), Value::Object(attributes));
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What was registered: what starts now or later, and what reaches into the past
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(example = json!({"registered_for_events": {"request_from_human": {"http://127.0.0.1:8888/hello/": {}}}}))]
pub struct Registered {
    /// The pairs that start now or later: by event, by URL, the attributes as they were given. Absent where there are none
    #[schema(nullable = false, value_type = Option<BTreeMap<String, BTreeMap<String, Object>>>)]
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub registered_for_events: Pairs,
    /// The pairs that reach into the past: a `datetime_start` that is not after now, or a `transaction_id` without one. Absent
    /// where there are none
    #[schema(nullable = false, value_type = Option<BTreeMap<String, BTreeMap<String, Object>>>)]
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub registered_for_retro_event_retrieval: Pairs,
}

/// What was taken off, and what was not there
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(example = json!({"unregistered_for_events": {"request_from_human": {"http://127.0.0.1:8888/hello/": {}}}}))]
pub struct Unregistered {
    /// The pairs that were registered and are no longer: by event, by URL, an empty object
    #[schema(value_type = BTreeMap<String, BTreeMap<String, Object>>)]
    pub unregistered_for_events: Pairs,
    /// The pairs that were not registered, in the same form. Absent where there are none
    #[schema(nullable = false, value_type = Option<BTreeMap<String, BTreeMap<String, Object>>>)]
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub not_registered: Pairs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_pairs_is_left_out_but_for_what_was_taken_off() {
        assert_eq!(serde_json::to_string(&Registered::default()).unwrap(), "{}");
        assert_eq!(serde_json::to_string(&Unregistered::default()).unwrap(), r#"{"unregistered_for_events":{}}"#);
        let mut not_registered = Pairs::default();
        for (event, url) in [("b", "http://h/2"), ("a", "http://h/1"), ("b", "http://h/1")] {
            not_registered.put(event, url, Map::new());
        }
        let answer = Unregistered { not_registered, ..Unregistered::default() };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"unregistered_for_events":{},"not_registered":{"b":{"http://h/2":{},"http://h/1":{}},"a":{"http://h/1":{}}}}"#
        );
    }
}
