//! What the systems that a trace went through add to its `traceparent`: the `tracestate` of
//! <https://www.w3.org/TR/trace-context/#tracestate-header>.

/// The most members of a list.
const MAX_MEMBERS: usize = 32;
/// How long a list is kept at most, in bytes. The recommendation has everybody pass on this much at least.
const MAX_BYTES: usize = 512;
/// Members longer than this are the first that a list is shortened by.
const LONG_MEMBER_BYTES: usize = 128;

/// Reads a list, which may stand in several headers, and writes it as one. Without a member, and where anything in it is no
/// member, there is none: it says nothing that could be relied on. One that is too long is shortened, by whole members.
pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let members = values.into_iter().flat_map(|value| value.split(','));
    let mut members: Vec<&str> =
        members.map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty()).collect();
    let is_legal =
        !members.is_empty() && members.len() <= MAX_MEMBERS && members.iter().all(|member| is_member(member));
    if !is_legal {
        return None;
    }
    if bytes_of(&members) > MAX_BYTES {
        members.retain(|member| member.len() <= LONG_MEMBER_BYTES);
    }
    while bytes_of(&members) > MAX_BYTES {
        // The one that was added the longest time ago.
        members.pop();
    }
    (!members.is_empty()).then(|| members.join(","))
}

fn bytes_of(members: &[&str]) -> usize {
    members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1)
}

fn is_member(member: &str) -> bool {
    member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
}

/// A key begins with a letter, or with a digit where it names a tenant of a system.
fn is_key(key: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'*' | b'/'))
    };
    let begins_with_letter = |part: &str| part.starts_with(|c: char| c.is_ascii_lowercase());
    match key.split_once('@') {
        None => key.len() <= 256 && begins_with_letter(key) && is_part(key),
        Some((tenant, system)) => {
            (1..=241).contains(&tenant.len())
                && tenant.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && is_part(tenant)
                && system.len() <= 14
                && begins_with_letter(system)
                && is_part(system)
        }
    }
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=')
        && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recommendations_own_examples_are_passed_on() {
        for list in ["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "fw529a3039@dt=FfAo5aXqk", "foo=1,bar=2", "a=b c"] {
            assert_eq!(parse([list]).as_deref(), Some(list));
        }
        assert_eq!(parse(["foo=1", " bar=2 ,\t", ""]).as_deref(), Some("foo=1,bar=2"), "several headers are one list");
    }

    #[test]
    fn what_is_no_list_is_none() {
        for list in
            ["", ",", "foo", "foo=", "=1", "Foo=1", "foo=1,bar", "foo=a=b", "foo=ä", "1foo=1", "a@b@c=1", "@s=1"]
        {
            assert_eq!(parse([list]), None, "{list}");
        }
        let too_many: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("k{n}=1")).collect();
        assert_eq!(parse([too_many.join(",").as_str()]), None);
        assert!(parse([too_many[1..].join(",").as_str()]).is_some());
    }

    #[test]
    fn a_long_list_is_shortened_by_long_members_first_and_then_from_the_end() {
        let (long, short) = (format!("long={}", "x".repeat(200)), |n: usize| format!("k{n}={}", "y".repeat(60)));
        let list = |members: &[String]| members.join(",");
        let shortened = parse([list(&[long.clone(), short(1), long, short(2), short(3)]).as_str()]);
        assert_eq!(shortened, Some(list(&[short(1), short(2), short(3)])));
        let many: Vec<String> = (0..20).map(short).collect();
        let kept = parse([list(&many).as_str()]).unwrap();
        assert!(kept.len() <= MAX_BYTES && list(&many).starts_with(&kept) && kept.starts_with("k0="));
    }

    #[test]
    fn a_list_of_512_bytes_is_kept_and_a_longer_one_is_not() {
        let member = |n: usize, bytes: usize| format!("k{n}={}", "y".repeat(bytes - 3));
        // Four of 127 bytes, the commas between them, and what makes it 512.
        for (last, kept) in [(127, 4), (128, 4), (129, 3)] {
            let list = [member(0, 127), member(1, 127), member(2, 127), member(3, last)].join(",");
            let members = parse([list.as_str()]).map(|list| list.split(',').count());
            assert_eq!(members, Some(kept), "{}", list.len());
        }
        let (long, longest) = (member(0, 128), member(1, 129));
        let list = [long.clone(), longest, member(2, 100), member(3, 100), member(4, 100)].join(",");
        let kept = [long, member(2, 100), member(3, 100), member(4, 100)].join(",");
        assert_eq!(parse([list.as_str()]), Some(kept), "only a longer member than 128 bytes goes first");
    }

    #[test]
    fn a_long_member_stays_where_the_list_is_not_too_long() {
        let of = |last: usize| format!("long={},k={},l={}", "x".repeat(200), "y".repeat(200), "z".repeat(last));
        let left = MAX_BYTES - of(0).len();
        assert_eq!(parse([of(left).as_str()]), Some(of(left)));
        assert!(!parse([of(left + 1).as_str()]).unwrap().contains("long"));
    }
}
