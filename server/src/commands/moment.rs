//! Moments as people type them.

use domain::Stamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Reads `1h` (ago; s, m, h, d, w), `now`, `today`, `yesterday`, a date, or what the API takes: a stamp, or RFC 3339. All in UTC.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    at(text, Stamp::now()).ok_or_else(|| {
        "it is not a moment: write `1h` (ago; s, m, h, d, w), `yesterday`, a date like 2026-01-31, a stamp, or RFC 3339".to_owned()
    })
}

fn at(text: &str, now: Stamp) -> Option<String> {
    let today = now.as_micros().div_euclid(DAY) * DAY;
    let moment = match text {
        "now" => now,
        "today" => Stamp::from_micros(today),
        "yesterday" => Stamp::from_micros(today - DAY),
        _ if Stamp::parse(text).is_ok() => return Some(text.to_owned()),
        _ => ago(text, now).or_else(|| Stamp::parse(&format!("{text}T00:00:00Z")).ok())?,
    };
    Some(moment.to_rfc3339())
}

fn ago(text: &str, now: Stamp) -> Option<Stamp> {
    let unit = match text.chars().last()? {
        's' => SECOND,
        'm' => 60 * SECOND,
        'h' => 3600 * SECOND,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let number: i64 = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()))?;
    Some(now.plus_micros(-number.checked_mul(unit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_type_them() {
        let now = Stamp::parse("2026-01-31T09:30:00Z").unwrap();
        for (text, moment) in [
            ("now", Some("2026-01-31T09:30:00.000000Z")),
            ("90s", Some("2026-01-31T09:28:30.000000Z")),
            ("1h", Some("2026-01-31T08:30:00.000000Z")),
            ("2w", Some("2026-01-17T09:30:00.000000Z")),
            ("today", Some("2026-01-31T00:00:00.000000Z")),
            ("yesterday", Some("2026-01-30T00:00:00.000000Z")),
            ("2026-01-02", Some("2026-01-02T00:00:00.000000Z")),
            ("20260131093000.0", Some("20260131093000.0")),
            ("2026-01-31T09:30:00+01:00", Some("2026-01-31T09:30:00+01:00")),
            ("", None),
            ("h", None),
            ("-1h", None),
            ("1y", None),
            ("2026-02-30", None),
            ("99999999999999999999d", None),
            ("9999999999999999w", None),
            ("ü", None),
        ] {
            assert_eq!(at(text, now).as_deref(), moment, "{text}");
        }
    }
}
