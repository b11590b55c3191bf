//! What a registration asks for: a type, or a pattern of types, as in a NATS subject.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event_type::{self, EventType, NotAType};

const ANY_TOKEN: &str = "*";
const THE_REST: &str = ">";

/// A type (`order.created`) or a pattern: `*` stands for one token, `>` at the end for one or more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TypePattern(String);

impl TypePattern {
    /// Reads a pattern. See [`NotAType`] for what is refused.
    pub fn parse(text: &str) -> Result<Self, NotAType> {
        event_type::check_tokens(text)?;
        event_type::check_characters(text, |_| false)?;
        let tokens: Vec<&str> = text.split('.').collect();
        let wild = |token: &str| token.contains(['*', '>']);
        let legal = tokens
            .iter()
            .enumerate()
            .all(|(i, token)| !wild(token) || *token == ANY_TOKEN || (*token == THE_REST && i + 1 == tokens.len()));
        if legal { Ok(Self(text.to_owned())) } else { Err(NotAType::BadWildcard(text.to_owned())) }
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The NATS subject that matches the subjects of the types that this pattern matches.
    pub fn subject(&self) -> String {
        format!("{}{}", event_type::SUBJECT_PREFIX, self.0)
    }

    /// Whether it is a type, rather than a pattern of several.
    pub fn is_one_type(&self) -> bool {
        self.0.split('.').all(|token| token != ANY_TOKEN && token != THE_REST)
    }

    /// Whether every type is.
    pub fn is_everything(&self) -> bool {
        self.0 == THE_REST
    }

    /// Whether a type is one of those asked for.
    pub fn matches(&self, event_type: &EventType) -> bool {
        // Most ask for one type, and most of what they see is of it.
        self.0 == event_type.as_str() || covers(&self.0, event_type.as_str())
    }
}

/// The fewest patterns, no two of which have a type in common, that together match at least all that `patterns` do.
///
/// NATS refuses a consumer whose filters overlap. Where one pattern covers another the covered one is dropped;
/// where two merely overlap (`a.*` and `*.b`) they are widened to one that covers both (`*.*`), and the lane drops
/// what nobody asked for.
pub fn disjoint<'a>(patterns: impl IntoIterator<Item = &'a TypePattern>) -> Vec<TypePattern> {
    let mut disjoint: Vec<String> = Vec::new();
    for pattern in patterns {
        let mut candidate = pattern.0.clone();
        while let Some(at) = disjoint.iter().position(|kept| overlap(kept, &candidate)) {
            candidate = union(&disjoint.swap_remove(at), &candidate);
        }
        disjoint.push(candidate);
    }
    disjoint.sort();
    disjoint.into_iter().map(TypePattern).collect()
}

/// Whether a pattern matches a type, which has no wildcards.
fn covers(pattern: &str, event_type: &str) -> bool {
    let (mut pattern, mut event_type) = (pattern.split('.'), event_type.split('.'));
    loop {
        match (pattern.next(), event_type.next()) {
            (None, None) => return true,
            (Some(THE_REST), Some(_)) => return true,
            (Some(ANY_TOKEN), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Whether there can be a type that both match.
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(THE_REST), Some(_)) | (Some(_), Some(THE_REST)) => return true,
            (Some(x), Some(y)) if x == y || x == ANY_TOKEN || y == ANY_TOKEN => {}
            _ => return false,
        }
    }
}

/// The narrowest pattern that covers both of two overlapping ones.
fn union(a: &str, b: &str) -> String {
    let mut tokens = Vec::new();
    for (x, y) in a.split('.').zip(b.split('.')) {
        if x == THE_REST || y == THE_REST {
            tokens.push(THE_REST);
            break;
        }
        tokens.push(if x == y { x } else { ANY_TOKEN });
    }
    tokens.join(".")
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TypePattern {
    type Err = NotAType;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TypePattern {
    type Error = NotAType;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TypePattern> for String {
    fn from(pattern: TypePattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> TypePattern {
        TypePattern::parse(text).unwrap()
    }

    fn reduced(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<TypePattern> = patterns.iter().map(|p| pattern(p)).collect();
        disjoint(&patterns).into_iter().map(String::from).collect()
    }

    #[test]
    fn wildcards_stand_for_whole_tokens_only() {
        for text in ["order.*", "*.created", ">", "order.>", "*", "order.*.created", "*.>"] {
            assert!(TypePattern::parse(text).is_ok(), "{text}");
        }
        for text in ["order*", "a.>.b", "a.b>", "**", ">.a", "a.*b", "mer.>", "a b.*", "a..*"] {
            assert!(TypePattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn filters_are_reduced_until_none_overlap() {
        assert_eq!(reduced(&["a", "b", "a"]), ["a", "b"]);
        assert_eq!(reduced(&["order.created", "order.*"]), ["order.*"]);
        assert_eq!(reduced(&["order.*", "order.>"]), ["order.>"]);
        assert_eq!(reduced(&["a.*", "*.b"]), ["*.*"]);
        assert_eq!(reduced(&["a.*", "*.b", "c.d"]), ["*.*"]);
        assert_eq!(reduced(&["a.>", "*.b"]), ["*.>"]);
        assert_eq!(reduced(&["a", "a.b"]), ["a", "a.b"]);
        assert_eq!(reduced(&["a.b", ">"]), [">"]);
        assert!(reduced(&[]).is_empty());
    }

    /// What NATS means by a subject's wildcards, written the slow and obvious way.
    fn reference_matches(pattern: &[&str], tokens: &[&str]) -> bool {
        match (pattern, tokens) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", rest @ ..], [_, tokens @ ..]) => reference_matches(rest, tokens),
            ([first, rest @ ..], [token, tokens @ ..]) => first == token && reference_matches(rest, tokens),
            _ => false,
        }
    }

    fn a_type() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]", 1..4).prop_map(|tokens| tokens.join("."))
    }

    fn a_pattern() -> impl Strategy<Value = TypePattern> {
        (prop::collection::vec("[ab*]", 1..4), any::<bool>()).prop_map(|(mut tokens, rest)| {
            if rest {
                tokens.push(">".into());
            }
            pattern(&tokens.join("."))
        })
    }

    proptest! {
        #[test]
        fn matching_is_what_nats_means_by_it(pattern in a_pattern(), text in a_type()) {
            let event_type = EventType::parse(&text).unwrap();
            let split = |t: &str| t.split('.').map(str::to_owned).collect::<Vec<_>>();
            let (p, t) = (split(pattern.as_str()), split(&text));
            let (p, t): (Vec<&str>, Vec<&str>) = (p.iter().map(String::as_str).collect(), t.iter().map(String::as_str).collect());
            prop_assert_eq!(pattern.matches(&event_type), reference_matches(&p, &t));
        }

        #[test]
        fn reduced_filters_lose_nothing_and_match_nothing_twice(
            patterns in prop::collection::vec(a_pattern(), 1..6),
            text in a_type(),
        ) {
            let event_type = EventType::parse(&text).unwrap();
            let asked = patterns.iter().any(|p| p.matches(&event_type));
            let got = disjoint(&patterns).iter().filter(|p| p.matches(&event_type)).count();
            prop_assert!(got <= 1);
            prop_assert!(got == 1 || !asked);
        }
    }

    #[test]
    fn a_pattern_is_told_from_a_type_and_has_the_subject_of_what_it_matches() {
        for (text, is_one_type) in
            [("a", true), ("a.b", true), ("*", false), (">", false), ("a.*", false), ("*.b", false), ("a.b.>", false)]
        {
            assert_eq!(pattern(text).is_one_type(), is_one_type, "{text}");
            assert_eq!(
                (pattern(text).subject(), pattern(text).to_string()),
                (format!("events.{text}"), text.to_owned())
            );
        }
    }

    #[test]
    fn a_wildcard_matches_as_many_tokens_as_it_stands_for() {
        for (wide, text, matches) in [
            ("*.b", "a.b", true),
            ("*.b", "a.c", false),
            ("*.b", "a", false),
            ("*.b", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*.c", "a.b.c", true),
            ("b.*.c", "a.b.c", false),
        ] {
            assert_eq!(pattern(wide).matches(&EventType::parse(text).unwrap()), matches, "{wide} {text}");
        }
    }
}
