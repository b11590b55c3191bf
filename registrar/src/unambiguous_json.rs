//! JSON, and what it says twice: programs do not agree which of two members of one name counts.

use std::fmt;

use domain::field_error::{self, FieldError};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads JSON. Answers it, with every member that an object names again.
pub(crate) fn parse(json: &[u8]) -> Result<(Value, Vec<FieldError>), serde_json::Error> {
    let mut repeated = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Part { at: String::new(), repeated: &mut repeated }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, repeated))
}

/// A value within the whole.
struct Part<'a> {
    /// Where it stands: a JSON pointer.
    at: String,
    repeated: &'a mut Vec<FieldError>,
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let at = field_error::push(&self.at, list.len());
            match items.next_element_seed(Part { at, repeated: &mut *self.repeated })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let at = field_error::push(&self.at, &name);
            if object.contains_key(&name) {
                self.repeated.push(FieldError::at(at.clone(), "the object names it twice"));
            }
            let value = members.next_value_seed(Part { at, repeated: &mut *self.repeated })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::field_error::Place;

    #[test]
    fn it_is_read_as_always() {
        for json in [
            "null",
            "true",
            "-1",
            "18446744073709551615",
            "1.5e3",
            "\"a\\u00e9\"",
            "[]",
            "[1,[2,{}]]",
            r#"{"b":1,"a":{"b":[null]}}"#,
        ] {
            let (value, repeated) = parse(json.as_bytes()).unwrap();
            assert_eq!((value, repeated.len()), (serde_json::from_str::<Value>(json).unwrap(), 0), "{json}");
        }
        for bad in ["", "{", "1 2", "[1,]", "1e400", "\"\u{1}\"", &"[".repeat(200)] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_named_twice_is_told_with_its_place() {
        let (_, repeated) = parse(br#"{"a":1,"b":[{"x/y":1,"x/y":2}],"a":1}"#).unwrap();
        let at = |fault: &FieldError| match &fault.place {
            Place::Pointer(pointer) => pointer.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(repeated.iter().map(at).collect::<Vec<_>>(), ["/b/0/x~1y", "/a"]);
    }
}
