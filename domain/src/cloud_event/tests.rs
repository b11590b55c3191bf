//! CloudEvents as they are posted: what is read, and every fault.

use super::*;

fn structured(json: &str) -> Result<CloudEvent, NotACloudEvent> {
    CloudEvent::from_structured(serde_json::from_str(json).unwrap(), "/0")
}

fn pointers(json: &str) -> Vec<String> {
    match structured(json) {
        Err(NotACloudEvent::Malformed(faults)) => faults
            .iter()
            .map(|fault| serde_json::to_value(fault).unwrap()["pointer"].as_str().unwrap().to_owned())
            .collect(),
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn the_json_formats_examples_are_read() {
    // Written after the examples of the CloudEvents JSON event format 1.0.2, section 3.2.
    let text = structured(
        r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","subject":null,"id":"C234-1234-1234",
            "time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5,
            "datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"AAEC"}"#,
    )
    .unwrap();
    assert_eq!(&text.data[..], [0, 1, 2]);
    assert_eq!(
        text.extensions,
        [
            ("ce-comexampleextension1".to_owned(), "value".to_owned()),
            ("ce-comexampleothervalue".to_owned(), "5".to_owned()),
        ]
    );
    let core = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
    let data = |rest: &str| structured(&format!("{{{core},{rest}}}")).unwrap().data;
    assert_eq!(&data(r#""data":{"a": 1.50}"#)[..], br#"{"a": 1.50}"#);
    assert_eq!(&data(r#""data":"text""#)[..], br#""text""#);
    assert_eq!(&data(r#""datacontenttype":"text/xml","data":"<much wow=\"xml\"/>""#)[..], br#"<much wow="xml"/>"#);
    assert_eq!(&data(r#""datacontenttype":"application/ld+json","data":"text""#)[..], br#""text""#);
    assert!(data(r#""subject":"x""#).is_empty());
    assert_eq!(&data(r#""data":1,"data_base64":null"#)[..], b"1");
    assert_eq!(&data(r#""data":null,"data_base64":"AAEC""#)[..], [0, 1, 2]);
    assert_eq!(&data(r#""data":null,"data_base64":null"#)[..], b"null");
}

#[test]
fn what_breaks_the_specification_is_named_all_at_once() {
    assert_eq!(pointers("[]"), ["/0"]);
    assert_eq!(pointers("{}"), ["/0/specversion", "/0/id", "/0/source", "/0/type"]);
    let core = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
    for (rest, pointer) in [
        (r#""time":"yesterday""#, "/0/time"),
        (r#""time":"20260131093000.0""#, "/0/time"),
        (r#""time":"0000-01-01T00:00:00Z""#, "/0/time"),
        (r#""time":"9999-12-31T23:59:59-01:00""#, "/0/time"),
        (r#""time":"0001-01-01T00:00:00+01:00""#, "/0/time"),
        (r#""Upper":"x""#, "/0/Upper"),
        (r#""with_underscore":"x""#, "/0/with_underscore"),
        (r#""list":[1]"#, "/0/list"),
        (r#""number":1.5"#, "/0/number"),
        (r#""large":4294967296"#, "/0/large"),
        (r#""subject":"""#, "/0/subject"),
        (r#""data":1,"data_base64":"AA==""#, "/0/data_base64"),
        (r#""data_base64":"not base64!""#, "/0/data_base64"),
        (r#""datacontenttype":"json""#, "/0/datacontenttype"),
    ] {
        assert_eq!(pointers(&format!("{{{core},{rest}}}")), [pointer], "{rest}");
    }
    assert_eq!(pointers(r#"{"specversion":"0.3","type":"t","source":"/s","id":""}"#), ["/0/specversion", "/0/id"]);
    let illegal = r#"{"specversion":"1.0","type":"a/b","source":"/s","id":"1"}"#;
    assert!(matches!(structured(illegal), Err(NotACloudEvent::Unacceptable(_))));
}

#[test]
fn binary_mode_is_read_from_headers() {
    let headers = [
        ("Ce-Specversion", "1.0"),
        ("ce-type", "t"),
        ("ce-source", "/s"),
        ("ce-id", "Euro%20%E2%82%AC"),
        ("ce-shop", "%C3%BC"),
        ("ce-transactionid", "T"),
        ("authorization", "secret"),
    ];
    let event = CloudEvent::from_binary(headers, Some("text/plain"), "hello".into()).unwrap();
    assert_eq!((event.id.as_str(), event.content_type.as_deref()), ("Euro €", Some("text/plain")));
    assert_eq!(event.transaction_id.as_deref(), Some("T"));
    assert_eq!(event.extensions, [("ce-shop".to_owned(), "%C3%BC".to_owned())]);
    assert_eq!(event.identity(), "ce /s Euro%20%E2%82%AC");
    assert!(CloudEvent::from_binary([("ce-id", "1")], None, Bytes::new()).is_err());
}

#[test]
fn no_media_type_is_made_up() {
    let core = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
    for (rest, content_type) in [
        ("", None),
        (r#","data_base64":"AA==""#, None),
        (r#","data":{"a":1}"#, Some("application/json")),
        (r#","data":null"#, Some("application/json")),
        (r#","data":"x","datacontenttype":"text/plain""#, Some("text/plain")),
        (r#","datacontenttype":"image/png""#, Some("image/png")),
    ] {
        let event = structured(&format!("{{{core}{rest}}}")).unwrap();
        assert_eq!(event.content_type.as_deref(), content_type, "{rest}");
    }
    let headers = [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "/s"), ("ce-id", "1")];
    assert_eq!(CloudEvent::from_binary(headers, None, "{}".into()).unwrap().content_type, None);
}

#[test]
fn an_attribute_that_does_not_decode_to_utf_8_is_refused_whichever_it_is() {
    for odd in ["ce-id", "ce-source", "ce-type", "ce-time", "ce-transactionid", "ce-subject", "ce-shop"] {
        let good = [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "/s"), ("ce-id", "1")];
        let headers = good.into_iter().filter(|(name, _)| *name != odd).chain([(odd, "caf%E9")]);
        match CloudEvent::from_binary(headers, None, Bytes::new()) {
            Err(NotACloudEvent::Malformed(faults)) => {
                assert_eq!(faults, [FieldError::header(odd, faults[0].detail.clone())], "{odd}");
                assert!(faults[0].detail.contains("UTF-8"), "{odd}");
            }
            other => panic!("{odd}: {other:?}"),
        }
    }
}

#[test]
fn all_attributes_fit_together_into_headers_that_servers_take() {
    // As headers, id and source have 3,072 bytes each.
    let long = "ж".repeat(512);
    let event = |bytes: usize| {
        format!(r#"{{"specversion":"1.0","type":"t","source":"{long}","id":"{long}","shop":"{}"}}"#, "x".repeat(bytes))
    };
    assert!(structured(&event(2_000)).is_ok());
    assert_eq!(pointers(&event(2_100)), ["/0"], "the event itself, not its member with an empty name");
    assert_eq!(pointers(r#"{"specversion":"1.0","type":"t","source":"/s","id":"1","":"x"}"#), ["/0/"], "that one");
}

#[test]
fn an_attribute_may_be_as_long_as_is_documented_and_no_longer() {
    let core = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
    let of = |name: &str, bytes: usize| format!("{{{core},\"{name}\":\"{}\"}}", "x/".repeat(bytes).split_at(bytes).0);
    for (name, most) in [("transactionid", 256), ("traceparent", 256), ("datacontenttype", 256)] {
        for bytes in [most - 1, most] {
            assert!(structured(&of(name, bytes)).is_ok(), "{name}: {bytes}");
        }
        assert_eq!(pointers(&of(name, most + 1)), [format!("/0/{name}")]);
    }
}

#[test]
fn extensions_are_64_at_most_and_all_attributes_eight_kibibytes() {
    let core = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
    let extensions = |many: usize| -> String { (0..many).map(|n| format!(",\"e{n}\":\"\"")).collect() };
    for many in [63, 64] {
        assert!(structured(&format!("{{{core}{}}}", extensions(many))).is_ok(), "{many}");
    }
    assert!(structured(&format!("{{{core}{}}}", extensions(65))).is_err());
    // With its name, `ce-e`, and the four bytes of type, source and id.
    let long = |bytes: usize| format!("{{{core},\"e\":\"{}\"}}", "x".repeat(bytes - 8));
    for bytes in [8191, 8192] {
        assert!(structured(&long(bytes)).is_ok(), "{bytes}");
    }
    assert!(structured(&long(8193)).is_err());
}

#[test]
fn what_the_specification_has_be_a_string_is_one() {
    for name in ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema"] {
        let mut event = serde_json::json!({"specversion": "1.0", "type": "t", "source": "/s", "id": "1"});
        event[name] = 1.into();
        assert!(pointers(&event.to_string()).contains(&format!("/0/{name}")), "{name}");
        event[name] = true.into();
        match structured(&event.to_string()) {
            Err(NotACloudEvent::Malformed(faults)) => {
                assert!(faults.iter().any(|fault| fault.detail == "it must be a string"), "{name}: {faults:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
