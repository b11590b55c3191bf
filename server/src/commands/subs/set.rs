//! `mer subs set`: settings as they are typed.

use serde_json::{Value, json};

/// A setting with its value: null where none is named, a number where it is one, and otherwise text.
pub(super) fn setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, or NAME= for the default")?;
    let value = match value {
        "" => Value::Null,
        value => value.parse::<u64>().map_or_else(|_| value.into(), Value::from),
    };
    Ok((name.to_owned(), value))
}

pub(super) fn patch_of(settings: Vec<(String, Value)>) -> Value {
    let mut patch = json!({});
    for (name, value) in settings {
        match name.as_str() {
            "group" if value.is_number() => patch["group"] = value.to_string().into(),
            "group" => patch["group"] = value,
            _ => patch["delivery"][name] = value,
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_a_patch() {
        let patch = |texts: &[&str]| patch_of(texts.iter().map(|text| setting(text).unwrap()).collect());
        assert_eq!(
            patch(&["timeout_ms=5000", "mode=batched", "max_attempts=", "group=7"]),
            json!({"delivery": {"timeout_ms": 5000, "mode": "batched", "max_attempts": null}, "group": "7"})
        );
        assert_eq!(patch(&["group="]), json!({"group": null}));
        assert!(setting("timeout_ms").is_err());
    }
}
