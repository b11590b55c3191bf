//! A CloudEvent 1.0 as a sender gives it: structured (the JSON event format) or binary (attributes in headers).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::event;
use crate::event_data;
use crate::event_type::EventType;
use crate::field_error::{self, FieldError};
use crate::header_value;
use crate::stamp::Stamp;

/// How the names of attributes begin in headers.
const PREFIX: &str = "ce-";
/// The attributes that CloudEvents defines: all of them are strings in JSON.
const STRINGS: [&str; 8] = ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema"];
/// The longest id or source, in bytes.
const MAX_IDENTITY_BYTES: usize = 1024;
/// The most attributes beside the required ones.
const MAX_EXTENSIONS: usize = 64;
/// The most that all attributes may have together as headers, in bytes: with `ce-listenerdata` that is what Node.js takes.
const MAX_ATTRIBUTE_BYTES: usize = 8 * 1024;
/// The longest media type and the longest trace context, in bytes.
const MAX_SHORT_BYTES: usize = 256;

/// An event as a sender gives it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvent {
    /// With the source, what makes it one and the same event.
    pub id: String,
    /// A URI reference.
    pub source: String,
    /// Its type, legal here.
    pub event_type: EventType,
    /// When it happened, if the sender says so.
    pub time: Option<Stamp>,
    /// The transaction that the attribute `transactionid`, or else the data, names.
    pub transaction_id: Option<String>,
    /// The data's media type, if the sender says it; JSON where the JSON format says it.
    pub content_type: Option<String>,
    /// `traceparent`, if given.
    pub traceparent: Option<String>,
    /// `tracestate`, if given; it means nothing without a `traceparent`.
    pub tracestate: Option<String>,
    /// Every other attribute, in header form: name with `ce-`, and percent-encoded value.
    pub extensions: Vec<(String, String)>,
    /// The data.
    pub data: Bytes,
}

/// Why something is not an event that can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotACloudEvent {
    /// It breaks the CloudEvents specification.
    Malformed(Vec<FieldError>),
    /// It is a CloudEvent, and its type is none that can be stored here.
    Unacceptable(Vec<FieldError>),
}

/// Collects attributes from either mode.
struct Builder<'a> {
    /// Where faults are: makes a fault out of an attribute's name and what is wrong.
    fault_at: &'a dyn Fn(&str, &str) -> FieldError,
    /// The same for what is wrong with the attributes together.
    fault_of_all: &'a dyn Fn(&str) -> FieldError,
    attributes: BTreeMap<String, String>,
    faults: Vec<FieldError>,
}

impl CloudEvent {
    /// Reads one event in the JSON event format; `pointer` is where it stands in the body.
    pub fn from_structured(json: &RawValue, pointer: &str) -> Result<Self, NotACloudEvent> {
        let fault_at = |name: &str, detail: &str| FieldError::at(field_error::push(pointer, name), detail);
        let fault_of_all = |detail: &str| FieldError::at(pointer, detail);
        let whole = |detail: String| NotACloudEvent::Malformed(vec![fault_of_all(&detail)]);
        if !json.get().starts_with('{') {
            return Err(whole("a CloudEvent in JSON is an object".to_owned()));
        }
        let mut members: BTreeMap<String, &RawValue> =
            serde_json::from_str(json.get()).map_err(|error| whole(error.to_string()))?;
        // One of the two that is null beside the other one is not there.
        let (data, data_base64) = (members.remove("data"), members.remove("data_base64").filter(is_not_null));
        let data = data.filter(|data| data_base64.is_none() || is_not_null(data));
        let mut builder = Builder::new(&fault_at, &fault_of_all);
        for (name, value) in members {
            match serde_json::from_str::<Value>(value.get()) {
                // What has no value may be written as null.
                Ok(Value::Null) => {}
                Ok(Value::String(text)) => builder.add(name, text),
                Ok(_) if STRINGS.contains(&name.as_str()) => builder.fault(&name, "it must be a string"),
                Ok(Value::Bool(flag)) => builder.add(name, flag.to_string()),
                Ok(Value::Number(number)) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                    builder.add(name, number.to_string());
                }
                _ => builder.fault(&name, "an attribute is a string, a boolean or a 32-bit integer"),
            }
        }
        // The JSON format (3.1.1) has `data` without a media type be JSON, and says so of nothing else.
        let content_type = builder.attributes.get("datacontenttype").cloned();
        let content_type = content_type.or_else(|| data.map(|_| event::JSON.to_owned()));
        let data = match (data, data_base64) {
            (Some(_), Some(_)) => {
                builder.fault("data_base64", "`data` and `data_base64` cannot both be there");
                Bytes::new()
            }
            (Some(data), None) => data_of(data, content_type.as_deref().unwrap_or(event::JSON)),
            (None, Some(text)) => {
                let text = serde_json::from_str::<String>(text.get()).ok();
                match text.and_then(|text| STANDARD.decode(text).ok()) {
                    Some(bytes) => bytes.into(),
                    None => {
                        builder.fault("data_base64", "it must be a string in base64");
                        Bytes::new()
                    }
                }
            }
            (None, None) => Bytes::new(),
        };
        builder.build(content_type, data)
    }

    /// Reads an event whose attributes are in headers (those that begin with `ce-`, percent-encoded) and whose data is
    /// the body.
    pub fn from_binary<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Self, NotACloudEvent> {
        let fault_at = |name: &str, detail: &str| FieldError::header(&format!("{PREFIX}{name}"), detail);
        let fault_of_all = |detail: &str| FieldError::header(PREFIX, detail);
        let mut builder = Builder::new(&fault_at, &fault_of_all);
        for (name, value) in headers {
            if let Some(name) = name.to_ascii_lowercase().strip_prefix(PREFIX) {
                match header_value::try_decode(&header_value::unquoted(value)) {
                    Some(text) => builder.add(name.to_owned(), text.into_owned()),
                    None => builder.fault(name, "it is not UTF-8 once its percent-encoding is decoded"),
                }
            }
        }
        if builder.attributes.contains_key("datacontenttype") {
            builder.fault("datacontenttype", "in binary mode it is the header `content-type`");
        }
        builder.build(content_type.map(str::to_owned), body)
    }

    /// The key by which JetStream recognises the same event: two events with the same source and id are one.
    pub fn identity(&self) -> String {
        format!("ce {} {}", header_value::encode(&self.source), header_value::encode(&self.id))
    }
}

impl<'a> Builder<'a> {
    fn new(fault_at: &'a dyn Fn(&str, &str) -> FieldError, fault_of_all: &'a dyn Fn(&str) -> FieldError) -> Self {
        Self { fault_at, fault_of_all, attributes: BTreeMap::new(), faults: Vec::new() }
    }

    fn fault(&mut self, name: &str, detail: &str) {
        self.faults.push((self.fault_at)(name, detail));
    }

    fn add(&mut self, name: String, value: String) {
        let is_legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !is_legal || name == "data" {
            self.fault(&name, "the name of an attribute has lower-case letters and digits only");
        } else if value.chars().any(|c| c.is_control()) {
            self.fault(&name, "an attribute holds no control characters");
        } else {
            self.attributes.insert(name, value);
        }
    }

    /// Takes out an attribute that must be there.
    fn required(&mut self, name: &str, max_bytes: usize) -> String {
        match self.attributes.remove(name) {
            Some(text) if (1..=max_bytes).contains(&text.len()) => return text,
            Some(text) => self.fault(name, &format!("it has {} bytes; it must have 1 to {max_bytes}", text.len())),
            // It is there, and cannot be read.
            None if self.has_fault_of(name) => {}
            None => self.fault(name, "it is missing, and a CloudEvent must have it"),
        }
        String::new()
    }

    /// Takes out an attribute that, if it is there, must not be empty.
    fn optional(&mut self, name: &str) -> Option<String> {
        let text = self.attributes.remove(name)?;
        if text.is_empty() {
            self.fault(name, "it is empty; leave it out instead");
        }
        Some(text)
    }

    fn build(mut self, content_type: Option<String>, data: Bytes) -> Result<CloudEvent, NotACloudEvent> {
        if self.required("specversion", 16) != event::SPEC_VERSION && !self.has_fault_of("specversion") {
            self.fault("specversion", "only 1.0 is spoken here");
        }
        let id = self.required("id", MAX_IDENTITY_BYTES);
        let source = self.required("source", MAX_IDENTITY_BYTES);
        let type_text = self.required("type", usize::MAX);
        let time = self.optional("time").and_then(|text| match chrono::DateTime::parse_from_rfc3339(&text) {
            Ok(_) => match Stamp::parse(&text) {
                Ok(time) => Some(time),
                Err(_) => {
                    self.fault("time", "in UTC it must be in one of the years 1 to 9999");
                    None
                }
            },
            Err(_) => {
                self.fault("time", "it must be RFC 3339, like `2026-01-31T09:30:00Z`");
                None
            }
        });
        let traceparent = self.optional(event::header::TRACEPARENT);
        let tracestate = self.optional(event::header::TRACESTATE);
        let transaction_id = self.optional("transactionid");
        if transaction_id.as_ref().is_some_and(|id| id.len() > event_data::MAX_TRANSACTION_ID_BYTES) {
            self.fault("transactionid", "it is too long: 256 bytes at most");
        }
        self.attributes.remove("datacontenttype");
        for name in ["subject", "dataschema"] {
            if self.attributes.get(name).is_some_and(String::is_empty) {
                self.fault(name, "it is empty; leave it out instead");
            }
        }
        let is_media_type =
            |text: &String| (1..=MAX_SHORT_BYTES).contains(&text.len()) && text.is_ascii() && text.contains('/');
        if !content_type.as_ref().is_none_or(is_media_type) {
            self.fault("datacontenttype", "it must be a media type, like `application/json`, of at most 256 bytes");
        }
        if traceparent.as_ref().is_some_and(|text| text.len() > MAX_SHORT_BYTES) {
            self.fault(event::header::TRACEPARENT, "it is too long: 256 bytes at most");
        }
        let to_header =
            |(name, value): (String, String)| (format!("{PREFIX}{name}"), header_value::encode(&value).into_owned());
        let extensions: Vec<(String, String)> =
            std::mem::take(&mut self.attributes).into_iter().map(to_header).collect();
        let own = [Some(&id), Some(&source), Some(&type_text), transaction_id.as_ref(), tracestate.as_ref()];
        self.bound_headers(own.into_iter().flatten(), &extensions);
        if !self.faults.is_empty() {
            return Err(NotACloudEvent::Malformed(self.faults));
        }
        let event_type = EventType::parse(&type_text)
            .map_err(|error| NotACloudEvent::Unacceptable(vec![(self.fault_at)("type", &error.to_string())]))?;
        let transaction_id = transaction_id.or_else(|| event_data::transaction_id_of(&data));
        Ok(CloudEvent {
            id,
            source,
            event_type,
            time,
            transaction_id,
            content_type,
            traceparent,
            tracestate,
            extensions,
            data,
        })
    }

    /// Bounds what the attributes have together as headers.
    fn bound_headers<'b>(&mut self, own: impl Iterator<Item = &'b String>, extensions: &[(String, String)]) {
        let own: usize = own.map(|text| header_value::encode(text).len()).sum();
        let further: usize = extensions.iter().map(|(name, value)| name.len() + value.len()).sum();
        if extensions.len() > MAX_EXTENSIONS || own + further > MAX_ATTRIBUTE_BYTES {
            let detail = format!(
                "more than {MAX_EXTENSIONS} extension attributes, or {MAX_ATTRIBUTE_BYTES} bytes of all attributes, \
                 percent-encoded as headers have them"
            );
            self.faults.push((self.fault_of_all)(&detail));
        }
    }

    fn has_fault_of(&self, name: &str) -> bool {
        let of_name = (self.fault_at)(name, "").place;
        self.faults.iter().any(|fault| fault.place == of_name)
    }
}

fn is_not_null(value: &&RawValue) -> bool {
    value.get() != "null"
}

/// The data of the JSON format: JSON stays as it is written; a string that is said to be of another media type is that
/// text.
fn data_of(data: &RawValue, content_type: &str) -> Bytes {
    let is_json = event::is_json(content_type);
    match serde_json::from_str::<String>(data.get()) {
        Ok(text) if !is_json => text.into_bytes().into(),
        _ => data.get().as_bytes().to_vec().into(),
    }
}

#[cfg(test)]
mod tests;
