//! JSON, and what in it is not the same for all who read it: programs do not agree which of two members of one name counts, and
//! most make another number of a whole one that is too large.

use std::fmt;

use domain::field_error::{self, FieldError};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads JSON. Answers it, with every member that an object names again, and every whole number that is not kept as it is.
pub(crate) fn parse(json: &[u8]) -> Result<(Value, Vec<FieldError>), serde_json::Error> {
    let (too_large, mut ambiguous) = (too_large(json), Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let part = Part { at: String::new(), too_large: &too_large, ambiguous: &mut ambiguous };
    let value = part.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, ambiguous))
}

/// The whole numbers in some JSON that 64 bits do not hold, as they are read: rounded.
fn too_large(json: &[u8]) -> Vec<f64> {
    let (mut found, mut rest) = (Vec::new(), json);
    while let Some(at) = rest.iter().position(|byte| *byte == b'"' || *byte == b'-' || byte.is_ascii_digit()) {
        rest = &rest[at..];
        let length = if rest[0] == b'"' { string_length(rest) } else { number_length(rest) };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        let Ok(number) = std::str::from_utf8(token) else { continue };
        let is_whole = number.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
        if is_whole && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() {
            found.extend(number.parse::<f64>());
        }
    }
    found
}

/// How long a string is, with its quotation marks; or what there is of it.
fn string_length(json: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = json.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

fn number_length(json: &[u8]) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    json.iter().position(|byte| !is_part(byte)).unwrap_or(json.len())
}

/// A value within the whole.
struct Part<'a> {
    /// Where it stands: a JSON pointer.
    at: String,
    too_large: &'a [f64],
    ambiguous: &'a mut Vec<FieldError>,
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
        if self.too_large.contains(&value) {
            let detail = "this whole number needs more than 64 bits and would be rounded: send it as a string";
            self.ambiguous.push(FieldError::at(self.at, detail));
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let at = field_error::push(&self.at, list.len());
            match items.next_element_seed(Part { at, too_large: self.too_large, ambiguous: &mut *self.ambiguous })? {
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
                self.ambiguous.push(FieldError::at(at.clone(), "the object names it twice"));
            }
            let value =
                members.next_value_seed(Part { at, too_large: self.too_large, ambiguous: &mut *self.ambiguous })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::field_error::Place;
    use proptest::prelude::*;

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

    #[test]
    fn a_whole_number_that_would_be_rounded_is_told_with_its_place() {
        let json = br#"{"a":[18446744073709551615,-9223372036854775808,1e30,1.5e300,"18446744073709551616 \\"],
            "b":18446744073709551616,"c":{"d":-9223372036854775809}}"#;
        let (_, told) = parse(json).unwrap();
        let at = |fault: &FieldError| match &fault.place {
            Place::Pointer(pointer) => pointer.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told.iter().map(at).collect::<Vec<_>>(), ["/b", "/c/d"]);
    }

    proptest! {
        #[test]
        fn a_number_of_any_length_is_the_same_when_it_is_read_again(digits in "[1-9][0-9]{16}", exponent in -300..290i32) {
            let json = format!("0.{digits}e{exponent}");
            let (value, _) = parse(json.as_bytes()).unwrap();
            prop_assert_eq!(value.as_f64(), json.parse::<f64>().ok());
            let (again, _) = parse(value.to_string().as_bytes()).unwrap();
            prop_assert_eq!(again, value);
        }
    }
}
