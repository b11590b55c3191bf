//! One thing that is wrong with a request, and where.

use serde::Serialize;

/// Where a fault is: in the body (an RFC 6901 JSON pointer), in a path or query parameter, or in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// JSON pointer into the request body; empty for the whole of it.
    Pointer(String),
    /// The name of a path or query parameter.
    Parameter(String),
    /// The name of a header.
    Header(String),
}

/// One entry of the `errors` of a problem (RFC 9457): `{"pointer": "/a/0/b", "detail": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where the fault is.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong, and what is expected. Of values only those of types, patterns and ids are repeated: any other one may
    /// be secret, and land in somebody's log with this.
    pub detail: String,
}

impl FieldError {
    /// A fault in the body, at a JSON pointer.
    pub fn at(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self { place: Place::Pointer(pointer.into()), detail: detail.to_string() }
    }

    /// A fault in a path or query parameter.
    pub fn parameter(name: &str, detail: impl ToString) -> Self {
        Self { place: Place::Parameter(name.to_owned()), detail: detail.to_string() }
    }

    /// A fault in a header.
    pub fn header(name: &str, detail: impl ToString) -> Self {
        Self { place: Place::Header(name.to_owned()), detail: detail.to_string() }
    }
}

/// A JSON pointer one token longer, escaped as RFC 6901 says (`~` as `~0`, `/` as `~1`).
pub fn push(pointer: &str, token: impl ToString) -> String {
    let token = token.to_string().replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{token}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serialises_with_its_place_by_name() {
        let json = serde_json::to_string(&FieldError::at(push("/a", "b/c~d"), "no")).unwrap();
        assert_eq!(json, r#"{"pointer":"/a/b~1c~0d","detail":"no"}"#);
        let json = serde_json::to_string(&FieldError::parameter("type", "no")).unwrap();
        assert_eq!(json, r#"{"parameter":"type","detail":"no"}"#);
    }
}
