//! Which types a pattern matches, by contract 2: written anew, so that the model does not share a fault with mer.

/// `*` stands for one token, `>` at the end for one or more.
pub(crate) fn matches(pattern: &str, kind: &str) -> bool {
    let (mut pattern, mut kind) = (pattern.split('.'), kind.split('.'));
    loop {
        match (pattern.next(), kind.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(token), Some(given)) if token == given => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_one_token_and_an_arrow_is_the_rest() {
        for (pattern, kind, expected) in [
            ("a.x", "a.x", true),
            ("a.x", "a.y", false),
            ("a.*", "a.x", true),
            ("a.*", "a.x.y", false),
            ("a.>", "a.x.y", true),
            ("a.>", "a", false),
            ("*.x", "b.x", true),
            (">", "b.x", true),
        ] {
            assert_eq!(matches(pattern, kind), expected, "{pattern} {kind}");
        }
    }
}
