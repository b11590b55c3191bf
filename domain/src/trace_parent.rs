//! Which trace an event belongs to: a `traceparent` of <https://www.w3.org/TR/trace-context/>, read in place.

/// How long version 00 is, in bytes; of later ones this much is read.
const LENGTH: usize = 55;

/// A well-formed `traceparent`. A text that is not well-formed names no trace, no matter who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent<'a> {
    trace_id: &'a str,
    parent_id: &'a str,
    is_sampled: bool,
}

impl<'a> TraceParent<'a> {
    /// Reads one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let mut hex = |digits: usize| parts.next().filter(|part| part.len() == digits && is_lower_hex(part));
        let (version, trace_id, parent_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let is_whole = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let is_some = |id: &str| id.bytes().any(|b| b != b'0');
        let is_legal = version != "ff" && is_whole && is_some(trace_id) && is_some(parent_id);
        is_legal.then_some(Self { trace_id, parent_id, is_sampled })
    }

    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &'a str {
        self.trace_id
    }

    /// The id of the span that it names: 16 hexadecimal digits.
    pub fn parent_id(&self) -> &'a str {
        self.parent_id
    }

    /// Whether that span is recorded.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recommendations_own_examples() {
        let recorded = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(recorded.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(recorded.parent_id(), "00f067aa0ba902b7");
        assert!(recorded.is_sampled());
        let not_recorded = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        assert!(!not_recorded.is_sampled());
    }

    #[test]
    fn a_later_version_may_say_more() {
        let known = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03";
        for (text, is_read) in [
            (known.to_owned(), true),
            (format!("{known}-more"), true),
            (format!("{known}more"), false),
            (known.replacen("01", "00", 1), true),
            (format!("{}-more", known.replacen("01", "00", 1)), false),
            (known.replacen("01", "ff", 1), false),
        ] {
            assert_eq!(TraceParent::parse(&text).is_some(), is_read, "{text}");
        }
    }

    #[test]
    fn what_is_none_names_no_trace() {
        for text in [
            "",
            "00",
            "canary",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e4}",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }
}
