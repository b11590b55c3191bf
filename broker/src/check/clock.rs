//! Whether NATS' clock and the one here agree.

use domain::Stamp;
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;

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

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

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
