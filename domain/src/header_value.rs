//! How an attribute's text travels in a header: percent-encoded as the CloudEvents HTTP protocol binding 1.0.2,
//! section 3.1.3.2, says. The NATS binding does the same.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// All outside U+0021 to U+007E, and the quotation mark and the percent sign.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The header form of a text: printable ASCII without space, `"` and bare `%`.
pub fn encode(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, ENCODED).into()
}

/// A stored header value made safe for HTTP: what is already in header form stays as it is, to the byte.
pub fn encode_stored(value: &str) -> String {
    const UNSAFE: &AsciiSet = CONTROLS;
    Cow::from(utf8_percent_encode(value, UNSAFE)).into_owned()
}

/// A header value without the double quotes that some senders put around it, and the backslashes within: the CloudEvents
/// HTTP binding has receivers take them off before they decode.
pub fn unquoted(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.into() };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        text.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
    }
    text.into()
}

/// The text of a header form; `None` where it is not UTF-8 after decoding, which the CloudEvents HTTP binding has receivers
/// reject. What is not valid percent-encoding stands for itself.
pub fn try_decode(value: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(value).decode_utf8().ok()
}

/// The text of a header form that somebody else has stored. What is not UTF-8 after decoding stands for itself, too: so two
/// values that differ stay two.
pub fn decode(value: &str) -> Cow<'_, str> {
    try_decode(value).unwrap_or(Cow::Borrowed(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_are_taken_off() {
        for (value, text) in [(r#""a \"b\" \\""#, r#"a "b" \"#), ("plain", "plain"), ("\"", "\""), ("\"\"", "")] {
            assert_eq!(unquoted(value), text);
        }
    }

    #[test]
    fn the_specifications_own_examples() {
        for (text, value) in
            [("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"), ("a\"b%", "a%22b%25"), ("plain/~", "plain/~")]
        {
            assert_eq!(encode(text), value);
            assert_eq!(decode(value), text);
        }
        assert_eq!(decode("100%"), "100%");
    }

    #[test]
    fn what_is_not_utf_8_stands_for_itself_and_stays_what_it_was() {
        for value in ["caf%E9", "caf%E8", "%ff%FE", "%C3%28", "%ED%A0%BD"] {
            assert_eq!(try_decode(value), None, "{value}");
            assert_eq!(decode(value), value);
        }
        assert_eq!(try_decode("caf%C3%A9").as_deref(), Some("café"));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_is_legal_in_a_header(text in any::<String>()) {
            let value = encode(&text).into_owned();
            prop_assert!(value.bytes().all(|b| (0x21..=0x7e).contains(&b)));
            prop_assert_eq!(decode(&value), text);
        }
    }
}
