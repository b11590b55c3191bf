//! Whether NATS' clock and the one here agree.

use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Event, Stamp};

use super::finding::Finding;

/// How far clocks may differ without a word, in microseconds.
const SMALL_SKEW_MICROS: i64 = 1_000_000;

/// How far NATS' clock is from ours; it was read somewhere between two moments of ours.
pub fn of_clock(theirs: Stamp, before: Stamp, after: Stamp) -> Finding {
    let (theirs, before, after) = (theirs.as_micros(), before.as_micros(), after.as_micros());
    let skew = theirs - theirs.clamp(before, after.max(before));
    let found = match skew {
        0 => return Finding::ok("clock", "NATS' clock and the one here agree"),
        skew => format!(
            "NATS' clock is {:.1} s {} the one here",
            skew.unsigned_abs() as f64 / 1e6,
            if skew < 0 { "behind" } else { "ahead of" }
        ),
    };
    let mend = "have both machines' clocks set by NTP";
    match skew.abs() {
        small if small <= SMALL_SKEW_MICROS => Finding::ok("clock", found),
        more if more <= CLOCK_SKEW_MARGIN_MICROS => {
            Finding::warn("clock", format!("{found}; beyond 5 s, replays by time miss events"), mend)
        }
        _ => {
            Finding::wrong("clock", format!("{found}: replays by time miss events, and signatures look too old"), mend)
        }
    }
}

/// Whether the last event shows that the clock of a receiver is ahead, or was when it came in: its time is later than when
/// NATS stored it. What a sender says of its own clock is not judged.
pub fn of_last_event(event: &Event) -> Option<Finding> {
    let ahead = event.time.as_micros() - event.stored_at.as_micros();
    if !event.is_of_receivers_time() || ahead <= CLOCK_SKEW_MARGIN_MICROS {
        return None;
    }
    let found = format!(
        "the last event ({}) says that it happened {:.1} s after NATS stored it: the clock of a receiver is or was ahead",
        event.sequence,
        ahead as f64 / 1e6
    );
    let mend = "have its clock set by NTP; by then `expire_after` and replays by time miss events of this time";
    Some(Finding::warn("clock", found, mend))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn an_event_from_later_than_it_was_stored_shows_a_clock_that_was_ahead() {
        let told = |source: &'static str, time: &'static str| {
            let headers = [("ce-specversion", "1.0"), ("ce-source", source), ("ce-time", time)];
            let stored_at = Stamp::parse("2026-01-31T09:30:00Z").unwrap();
            let event = Event::from_message("EVENTS", "events.a", 17, stored_at, headers, "{}".into()).unwrap();
            of_last_event(&event).map(|finding| finding.found)
        };
        let (later, soon) = ("2026-01-31T17:30:00Z", "2026-01-31T09:30:04Z");
        assert!(
            told("/receive_event", later).is_some_and(|found| found.contains("(17)") && found.contains("28800.0 s"))
        );
        assert_eq!((told("/receive_event", soon), told("/shop", later)), (None, None));
    }

    #[test]
    fn clocks_that_differ_are_told_by_how_much() {
        let at = |micros: i64| Stamp::from_micros(1_000_000_000_000 + micros);
        for (theirs, level, text) in [
            (500_000, Level::Ok, "agree"),
            (1_900_000, Level::Ok, "0.9 s ahead"),
            (-2_500_000, Level::Warn, "2.5 s behind"),
            (7_000_000, Level::Wrong, "6.0 s ahead"),
        ] {
            let finding = of_clock(at(theirs), at(0), at(1_000_000));
            assert!(finding.level == level && finding.found.contains(text), "{finding:?}");
        }
    }
}
