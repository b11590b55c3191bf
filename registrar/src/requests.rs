//! The bodies that the registrar reads. Each type has one door, `parse`, which names every fault with its JSON pointer, and
//! describes itself for OpenAPI beside it.
//!
//! - `registrations`: the bodies of the two original calls.
//! - `subscription`: `PUT` and `PATCH` of a subscription; `attributes`, `delivery`: what they say of events and deliveries.
//! - `redelivery`: a part of the log again; `redrive`: dead letters again; `rotation`: a new secret.
//! - `values`: what stands in several of them: moments, numbers, types, URLs.

mod attributes;
mod delivery;
mod redelivery;
mod redrive;
mod registrations;
mod rotation;
mod subscription;
mod values;

pub use attributes::RegistrationAttributes;
pub use delivery::DeliveryChange;
pub use redelivery::RedeliveryRequest;
pub use redrive::{Letters, RedriveRequest};
pub use registrations::{
    EventToRegister, EventToUnregister, Registrations, Unregistrations, UrlToRegister, UrlToUnregister,
};
pub use rotation::{DEFAULT_GRACE_SECS, RotationRequest};
pub use subscription::{EventWanted, SubscriptionPatch, SubscriptionToPut};
pub(crate) use values::{MAX_ENTRIES, secret_type};

/// Where the faults of a body are, for the tests of what reads one.
#[cfg(test)]
fn pointers<T: std::fmt::Debug>(result: Result<T, Vec<domain::FieldError>>) -> Vec<String> {
    let of = |fault| serde_json::to_value(fault).unwrap()["pointer"].as_str().unwrap().to_owned();
    result.unwrap_err().into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    //! The descriptions against the doors: what a schema says of a member is what `parse` does with it.

    use super::*;
    use domain::{FieldError, Stamp};
    use serde_json::{Value, json};
    use utoipa::PartialSchema;

    /// After the moments that stand in examples.
    const NOW: Stamp = Stamp::from_micros(1_800_000_000_000_000);

    /// A request, or a part of one.
    struct Described {
        schema: Value,
        /// Makes a whole body out of the part.
        body: fn(Value) -> Value,
        /// What is wrong with a body.
        faults: fn(&Value) -> Vec<FieldError>,
        /// Where the part stands in the body.
        at: &'static str,
    }

    fn described<T: PartialSchema>(faults: fn(&Value) -> Vec<FieldError>) -> Described {
        part::<T>(|body| body, faults, "")
    }

    fn part<T: PartialSchema>(
        body: fn(Value) -> Value,
        faults: fn(&Value) -> Vec<FieldError>,
        at: &'static str,
    ) -> Described {
        Described { schema: serde_json::to_value(T::schema()).unwrap(), body, faults, at }
    }

    fn all() -> Vec<Described> {
        let register = |body: &Value| Registrations::parse(body, NOW).err().unwrap_or_default();
        let unregister = |body: &Value| Unregistrations::parse(body).err().unwrap_or_default();
        let patch = |body: &Value| SubscriptionPatch::parse(body, NOW).err().unwrap_or_default();
        vec![
            described::<Registrations>(register),
            part::<EventToRegister>(|part| json!({"events_to_register": [part]}), register, "/events_to_register/0"),
            part::<UrlToRegister>(
                |part| json!({"events_to_register": [{"event": "a", "urls_to_register": [part]}]}),
                register,
                "/events_to_register/0/urls_to_register/0",
            ),
            described::<Unregistrations>(unregister),
            part::<UrlToUnregister>(
                |part| json!({"events_to_unregister": [{"event": "a", "urls_to_unregister": [part]}]}),
                unregister,
                "/events_to_unregister/0/urls_to_unregister/0",
            ),
            described::<SubscriptionToPut>(|body| SubscriptionToPut::parse(body, NOW).err().unwrap_or_default()),
            described::<SubscriptionPatch>(patch),
            part::<EventWanted>(|part| json!({"events": [part]}), patch, "/events/0"),
            part::<DeliveryChange>(|part| json!({"delivery": part}), patch, "/delivery"),
            described::<RedeliveryRequest>(|body| RedeliveryRequest::parse(body, NOW).err().unwrap_or_default()),
            described::<RotationRequest>(|body| RotationRequest::parse(body).err().unwrap_or_default()),
            described::<RedriveRequest>(|body| RedriveRequest::parse(body).err().unwrap_or_default()),
        ]
    }

    impl Described {
        fn properties(&self) -> Vec<(String, Value)> {
            let alternatives = self.schema["oneOf"].as_array().cloned();
            let objects = alternatives.unwrap_or_else(|| vec![self.schema.clone()]);
            let of = |object: &Value| object["properties"].as_object().unwrap().clone();
            objects.iter().flat_map(of).collect()
        }

        /// What is wrong with one member of this value.
        fn fault_of(&self, name: &str, value: Value) -> Option<String> {
            let pointer = json!(format!("{}/{name}", self.at));
            let faults = (self.faults)(&(self.body)(json!({name: value})));
            let faults = faults.iter().map(|fault| serde_json::to_value(fault).unwrap());
            let mut faults = faults.filter(|fault| fault["pointer"] == pointer);
            faults.next().map(|fault| fault["detail"].to_string())
        }
    }

    #[test]
    fn every_example_is_accepted() {
        for described in all() {
            if let Some(example) = described.schema.get("example") {
                let faults = (described.faults)(&(described.body)(example.clone()));
                assert!(faults.is_empty(), "{example}: {faults:?}");
            }
        }
    }

    #[test]
    fn the_members_that_are_described_are_known_and_no_others() {
        let is_unknown = |fault: &String| fault.contains("unknown") || fault.contains("no such attribute");
        for described in all() {
            for (name, _) in described.properties() {
                let fault = described.fault_of(&name, json!({"odd": [1]}));
                assert!(!fault.as_ref().is_some_and(is_unknown), "{}/{name}: {fault:?}", described.at);
            }
            assert!(described.fault_of("nobody_knows_this", json!(1)).is_some(), "{}", described.at);
        }
    }

    #[test]
    fn every_limit_that_is_described_is_the_one_that_is_kept() {
        let mut limits = 0;
        for described in all() {
            for (name, schema) in described.properties() {
                let mut expect = |value: Value, is_good: bool| {
                    limits += 1;
                    let fault = described.fault_of(&name, value.clone());
                    assert_eq!(fault.is_none(), is_good, "{}/{name}: {value}: {fault:?}", described.at);
                };
                for (limit, beyond) in [("minimum", -1.0), ("maximum", 1.0)] {
                    if let Some(bound) = schema.get(limit).and_then(Value::as_f64) {
                        expect(json!(bound), true);
                        expect(json!(bound + beyond), false);
                    }
                }
                if let Some(bound) = schema.get("exclusiveMinimum") {
                    expect(bound.clone(), false);
                }
                if schema["type"] == "string" || schema["type"][0] == "string" {
                    if let Some(longest) = schema["maxLength"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()) {
                        expect("a".repeat(longest).into(), true);
                        expect("a".repeat(longest + 1).into(), false);
                    }
                    if schema.get("minLength").is_some() {
                        expect("".into(), false);
                    }
                }
                for word in schema["enum"].as_array().into_iter().flatten() {
                    expect(word.clone(), true);
                    if let Some(word) = word.as_str() {
                        expect(json!(format!("{word}x")), false);
                    }
                }
                if schema.get("minItems").is_some() {
                    expect(json!([]), false);
                }
            }
        }
        assert!(limits > 60, "{limits}");
    }

    #[test]
    fn every_member_is_described() {
        for described in all() {
            for (name, schema) in described.properties() {
                assert!(schema["description"].as_str().is_some_and(|text| text.len() > 10), "{}/{name}", described.at);
            }
        }
    }
}
