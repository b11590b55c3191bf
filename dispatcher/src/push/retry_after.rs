//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::Duration;

use domain::Stamp;

/// The longest that a target can have us wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// How long a target asks to be left alone from `now` on, at most an hour. `None` where it says nothing that can be read.
pub(crate) fn parse(text: &str, now: Stamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are more than an hour as well.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        let now = Duration::from_micros(u64::try_from(now.as_micros()).ok()?);
        at.saturating_sub(now)
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_clamped() {
        let now = Stamp::parse("2026-01-31T09:30:00Z").unwrap();
        let secs = |text| parse(text, now).map(|wait| wait.as_secs());
        for (text, wait) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sat, 31 Jan 2026 09:30:30 GMT", Some(30)),
            ("Saturday, 31-Jan-26 09:30:30 GMT", Some(30)),
            ("Sat, 31 Jan 2026 09:00:00 GMT", Some(0)),
            ("Fri, 01 Jan 2100 00:00:00 GMT", Some(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(secs(text), wait, "{text:?}");
        }
    }
}
