//! A moment in UTC, to the microsecond, in the two forms that the wire knows.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digits;

/// A moment in UTC, in whole microseconds.
///
/// It displays, serialises and parses as the stamp of the original calls, `YYYYmmddHHMMSS.ffffff` (which sorts as text), and also
/// parses from RFC 3339. Years 1 to 9999, so that both forms exist for every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(i64);

/// A text that is not a moment. It is not repeated: its author may have put a secret there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a moment: write a stamp like `20260131093000.000000` (UTC) or RFC 3339 like `2026-01-31T09:30:00Z`")]
pub struct NotAMoment;

const STAMP_SECONDS: &str = "%Y%m%d%H%M%S";
/// 0001-01-01T00:00:00Z.
const MIN_MICROS: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z.
const MAX_MICROS: i64 = 253_402_300_799_999_999;

impl Stamp {
    /// The moment so many microseconds after 1970-01-01T00:00:00Z, clamped to the years 1 to 9999.
    pub const fn from_micros(micros: i64) -> Self {
        if micros < MIN_MICROS {
            Self(MIN_MICROS)
        } else if micros > MAX_MICROS {
            Self(MAX_MICROS)
        } else {
            Self(micros)
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// What the system's clock says.
    pub fn now() -> Self {
        Self::from_micros(Utc::now().timestamp_micros())
    }

    /// Reads a stamp (`YYYYmmddHHMMSS`, with an optional fraction of one to six digits) or RFC 3339, of which
    /// anything finer than a microsecond is cut off.
    pub fn parse(text: &str) -> Result<Self, NotAMoment> {
        parse_stamp(text).or_else(|| parse_rfc3339(text)).ok_or(NotAMoment)
    }

    /// When a transaction may have begun: where its id is a stamp exactly as receivers make them. It is a hint only: a
    /// sender's own id may look the same and mean something else. See [`Event::began_its_transaction`](crate::Event).
    pub fn of_transaction(id: &str) -> Option<Self> {
        Self::parse(id).ok().filter(|stamp| stamp.to_string() == id)
    }

    /// RFC 3339 in UTC with microseconds, as `ce-time` carries it.
    pub fn to_rfc3339(self) -> String {
        let t = self.date_time();
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (place, value) in [
            (0..4, t.year().unsigned_abs()),
            (5..7, t.month()),
            (8..10, t.day()),
            (11..13, t.hour()),
            (14..16, t.minute()),
            (17..19, t.second()),
            (20..26, t.timestamp_subsec_micros()),
        ] {
            digits::write(&mut text[place], value.into());
        }
        as_text(&text).to_owned()
    }

    /// The moment this much later (earlier, if negative), within the years 1 to 9999.
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    fn date_time(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.date_time();
        let mut text = *b"00000000000000.000000";
        let date = t.year().unsigned_abs() * 10_000 + t.month() * 100 + t.day();
        let time = t.hour() * 10_000 + t.minute() * 100 + t.second();
        digits::write(&mut text[..8], date.into());
        digits::write(&mut text[8..14], time.into());
        digits::write(&mut text[15..], t.timestamp_subsec_micros().into());
        f.write_str(as_text(&text))
    }
}

/// What was written is ASCII.
fn as_text(written: &[u8]) -> &str {
    std::str::from_utf8(written).unwrap_or_default()
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn parse_stamp(text: &str) -> Option<Stamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if seconds.len() != 14 || !all_digits(seconds) || !(1..=6).contains(&fraction.len()) || !all_digits(fraction) {
        return None;
    }
    let whole = NaiveDateTime::parse_from_str(seconds, STAMP_SECONDS).ok()?.and_utc();
    let whole = Some(whole).filter(is_a_second)?;
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    in_range(whole.timestamp_micros() + micros)
}

fn parse_rfc3339(text: &str) -> Option<Stamp> {
    in_range(DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()).filter(is_a_second)?.timestamp_micros())
}

/// Whether there can be such a second: a 60th is a leap second, and there are some at the end of a month in UTC only (RFC 3339,
/// section 5.7).
fn is_a_second(at: &DateTime<Utc>) -> bool {
    let is_leap = at.nanosecond() >= 1_000_000_000;
    let is_last = (at.hour(), at.minute()) == (23, 59) && (*at + chrono::TimeDelta::seconds(2)).day() == 1;
    !is_leap || is_last
}

fn in_range(micros: i64) -> Option<Stamp> {
    (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(Stamp(micros))
}

/// By how much the system's clock may go back before stamps follow it, in microseconds. Clocks are set by less than that all
/// the time.
const SMALL_STEP_MICROS: i64 = 1_000_000;

/// Hands out strictly increasing stamps, unless the system's clock goes back by more than a second. Then it was wrong, and
/// stamps that went on increasing would be wrong for as long as it was ahead.
#[derive(Debug, Default)]
pub struct StampClock {
    last: AtomicI64,
}

/// A stamp that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    /// The stamp.
    pub stamp: Stamp,
    /// By how much it is before the one that was handed out last, in microseconds, where the clock has gone back.
    pub stepped_back_micros: Option<i64>,
}

impl StampClock {
    /// `now`, or one microsecond after the last one handed out where the clock stands still or goes back a little.
    pub fn next(&self, now: Stamp) -> Stamped {
        let step = |last: i64| if last - now.0 > SMALL_STEP_MICROS { now.0 } else { now.0.max(last + 1) };
        let last = self.last.update(Ordering::Relaxed, Ordering::Relaxed, step);
        let stamp = Stamp::from_micros(step(last));
        Stamped { stamp, stepped_back_micros: Some(last - stamp.0).filter(|back| *back > 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_is_read_with_short_long_and_no_fraction() {
        for (text, micros) in [
            ("20200101000000.0", 1_577_836_800_000_000),
            ("20200101000000", 1_577_836_800_000_000),
            ("20200101000000.5", 1_577_836_800_500_000),
            ("20200101000000.000001", 1_577_836_800_000_001),
            ("2020-01-01T00:00:00Z", 1_577_836_800_000_000),
            ("2020-01-01T01:00:00.25+01:00", 1_577_836_800_250_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("2017-01-01T08:59:60.5+09:00", 1_483_228_800_500_000),
            ("20161231235960", 1_483_228_800_000_000),
        ] {
            assert_eq!(Stamp::parse(text), Ok(Stamp(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "2020",
            "20201301000000.0",
            "20200230000000.0",
            "20200101000000.",
            "20200101000000.0000001",
            "20200101000000.-1",
            "2020-01-01",
            "2020-01-01T00:00:00",
            "+0200101000000.0",
            "20200101000000.０",
            "20200101246060.0",
            "2016-12-31T12:00:60Z",
            "2016-12-30T23:59:60Z",
            "2016-12-31T23:59:60+01:00",
            "20161231120060.0",
        ] {
            assert!(Stamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_still_gives_increasing_stamps() {
        let clock = StampClock::default();
        let given = [100, 100, 50, 101, 300].map(|now| clock.next(Stamp(now)));
        assert_eq!(given.map(|given| given.stamp.0), [100, 101, 102, 103, 300]);
        assert!(given.iter().all(|given| given.stepped_back_micros.is_none()));
    }

    #[test]
    fn a_clock_that_was_ahead_is_followed_back() {
        const HOURS: i64 = 8 * 3_600_000_000;
        let clock = StampClock::default();
        let given = [100, HOURS, 200, 201, HOURS, HOURS - SMALL_STEP_MICROS].map(|now| clock.next(Stamp(now)));
        assert_eq!(given.map(|given| given.stamp.0), [100, HOURS, 200, 201, HOURS, HOURS + 1]);
        let stepped_back = given.map(|given| given.stepped_back_micros);
        assert_eq!(stepped_back, [None, None, Some(HOURS - 200), None, None, None]);
    }

    proptest! {
        #[test]
        fn both_forms_read_back_and_sort_as_time_does(a in MIN_MICROS..=MAX_MICROS, b in MIN_MICROS..=MAX_MICROS) {
            let (a, b) = (Stamp(a), Stamp(b));
            prop_assert_eq!(Stamp::parse(&a.to_string()), Ok(a));
            prop_assert_eq!(Stamp::parse(&a.to_rfc3339()), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_rfc3339(), a.date_time().to_rfc3339_opts(SecondsFormat::Micros, true));
            prop_assert_eq!(a.to_string(), a.date_time().format("%Y%m%d%H%M%S.%6f").to_string());
        }
    }

    #[test]
    fn a_stamp_has_fourteen_digits_before_the_point() {
        for (text, is_stamp) in [
            ("20260131093000", true),
            ("20260131093000.5", true),
            ("2026013109300", false),
            ("2026013109300.5", false),
            ("202601310930000", false),
            ("2026013109300x", false),
            ("+2026013109300", false),
        ] {
            assert_eq!(parse_stamp(text).is_some(), is_stamp, "{text}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_by_more_than_a_second_is_followed() {
        let now = 1_800_000_000_000_000;
        for (back, follows) in [(1, false), (1_000_000, false), (1_000_001, true), (3_600_000_000, true)] {
            let clock = StampClock::default();
            clock.next(Stamp::from_micros(now));
            let stamp = clock.next(Stamp::from_micros(now - back)).stamp.as_micros();
            assert_eq!(stamp, if follows { now - back } else { now + 1 }, "{back}");
        }
    }

    #[test]
    fn a_moment_beyond_the_years_that_can_be_written_is_the_last_one_that_can() {
        for (micros, stamp) in [
            (i64::MIN, MIN_MICROS),
            (MIN_MICROS - 1, MIN_MICROS),
            (MIN_MICROS, MIN_MICROS),
            (MIN_MICROS + 1, MIN_MICROS + 1),
            (MAX_MICROS, MAX_MICROS),
            (MAX_MICROS + 1, MAX_MICROS),
            (i64::MAX, MAX_MICROS),
        ] {
            assert_eq!(Stamp::from_micros(micros).as_micros(), stamp);
        }
    }
}
