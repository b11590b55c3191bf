//! `required_data`: the keys that a delivery has to have, and filling in those that an event lacks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::json_object::{Key, members};

/// Values for keys that an event lacks, as JSON text.
pub type Found = BTreeMap<String, String>;

/// Which of `required` the data lacks. Data that is no JSON object lacks them all.
pub fn missing<'a>(data: &[u8], required: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let present = members(data).unwrap_or_default();
    required.into_iter().filter(|key| !present.contains_key(&Key::from(*key))).collect()
}

/// The value that data has under a key, as JSON text.
pub fn value_of(data: &[u8], key: &str) -> Option<String> {
    members(data)?.remove(&Key::from(key)).map(|value| value.get().to_owned())
}

/// The data with more keys, after its own. Data that is no JSON object stays as it is.
pub fn fill<'a>(data: &Bytes, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bytes {
    let trimmed = data.trim_ascii();
    let Some(open) = trimmed.strip_suffix(b"}").filter(|_| trimmed.starts_with(b"{")) else { return data.clone() };
    let mut filled = open.to_vec();
    let mut is_empty = filled.trim_ascii().len() == 1;
    for (key, value) in values {
        if !std::mem::replace(&mut is_empty, false) {
            filled.push(b',');
        }
        filled.extend_from_slice(serde_json::Value::from(key).to_string().as_bytes());
        filled.push(b':');
        filled.extend_from_slice(value.as_bytes());
    }
    filled.push(b'}');
    filled.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        let data = br#"{"a": null, "b": {"c": 1}}"#;
        assert_eq!(missing(data, ["a", "b", "c"]), BTreeSet::from(["c"]));
        assert_eq!(missing(b"[1]", ["a"]), BTreeSet::from(["a"]));
        assert_eq!(value_of(data, "b").as_deref(), Some(r#"{"c": 1}"#));
        assert_eq!(value_of(data, "c"), None);
        assert_eq!(value_of(br#"{"\ud83d": 1, "b": 2}"#, "b").as_deref(), Some("2"));
    }

    #[test]
    fn what_is_filled_in_stands_behind_what_was_there() {
        let fill = |data: &'static str, values: &[(&str, &str)]| {
            String::from_utf8(fill(&Bytes::from(data), values.iter().copied()).to_vec()).unwrap()
        };
        assert_eq!(fill(r#"{"a":1}"#, &[("b", "[2]"), ("c\"", "3.0")]), r#"{"a":1,"b":[2],"c\"":3.0}"#);
        assert_eq!(fill("{ }", &[("b", "1")]), r#"{ "b":1}"#);
        assert_eq!(fill(r#"{"a":1}"#, &[]), r#"{"a":1}"#);
        assert_eq!(fill("[1]", &[("b", "1")]), "[1]");
    }
}
