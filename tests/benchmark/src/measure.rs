//! What was measured: a figure of several rounds, the limit that was measured in the same rounds, and what is to be
//! reached.

use std::fmt;

use serde_json::{Value, json};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Millis,
    Seconds,
    Mebibytes,
    Kibibytes,
    PercentOfACore,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aim {
    /// So many times the limit, or more.
    AtLeastOfLimit(f64),
    /// So many times the limit, or less.
    AtMostOfLimit(f64),
    /// As much of the limit as this, or as much more.
    WithinOfLimit(f64),
    /// So much, whatever the limit.
    AtMost(f64),
}

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    /// Of each round.
    pub(crate) values: Vec<f64>,
    pub(crate) limit: Option<Limit>,
    pub(crate) aim: Option<Aim>,
    /// What else there is to say.
    pub(crate) note: String,
}

/// What a figure is measured against.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    pub(crate) what: String,
    /// Of each round.
    pub(crate) values: Vec<f64>,
}

/// The middle one of several values, the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Figure {
    /// A figure without a limit or an aim.
    pub(crate) fn new(what: impl Into<String>, unit: Unit, values: Vec<f64>) -> Self {
        Self { what: what.into(), unit, values, limit: None, aim: None, note: String::new() }
    }

    /// Measured against this, in the same rounds.
    pub(crate) fn against(mut self, what: impl Into<String>, values: Vec<f64>) -> Self {
        self.limit = Some(Limit { what: what.into(), values });
        self
    }

    /// With this to be reached.
    pub(crate) fn aims(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }

    /// With this said beside it.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Figure by limit, round by round.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        let limit = self.limit.as_ref()?;
        let ratios: Vec<f64> = self.values.iter().zip(&limit.values).map(|(value, limit)| value / limit).collect();
        Spread::of(&ratios)
    }

    /// Whether it is what was aimed at; nothing where there is no aim, or no figure.
    pub(crate) fn is_reached(&self) -> Option<bool> {
        let value = Spread::of(&self.values)?.median;
        let ratio = self.ratio().map(|ratio| ratio.median);
        Some(match self.aim? {
            Aim::AtLeastOfLimit(least) => ratio? >= least,
            Aim::AtMostOfLimit(most) => ratio? <= most,
            Aim::WithinOfLimit(part) => (ratio? - 1.0).abs() <= part || ratio? > 1.0,
            Aim::AtMost(most) => value <= most,
        })
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let spread = |values: &[f64]| {
            let spread = Spread::of(values);
            spread
                .map(|spread| json!({"median": spread.median, "min": spread.min, "max": spread.max, "rounds": values}))
        };
        json!({
            "what": self.what,
            "unit": self.unit.to_string(),
            "figure": spread(&self.values),
            "limit": self.limit.as_ref().map(|limit| json!({"what": limit.what, "figure": spread(&limit.values)})),
            "ratio": self.ratio().map(|ratio| json!({"median": ratio.median, "min": ratio.min, "max": ratio.max})),
            "aim": self.aim.map(|aim| aim.to_string()),
            "reached": self.is_reached(),
            "note": self.note,
        })
    }
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return None,
            even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Some(Self { median, min: *sorted.first()?, max: *sorted.last()? })
    }
}

/// The value below which this part of the values is, by nearest rank. Zero of none.
pub(crate) fn percentile(values: &mut [u64], part: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len()) - 1;
    *values.select_nth_unstable(rank).1 as f64
}

/// What goes through two parts on the same cores, one after the other.
pub(crate) fn harmonic(one: f64, other: f64) -> f64 {
    1.0 / (1.0 / one + 1.0 / other)
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PerSecond => "/s",
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::Mebibytes => "MiB",
            Self::Kibibytes => "KiB",
            Self::PercentOfACore => "%",
        })
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeastOfLimit(least) => write!(f, "≥ {least} ×"),
            Self::AtMostOfLimit(most) => write!(f, "≤ {most} ×"),
            Self::WithinOfLimit(part) => write!(f, "within {} %", part * 100.0),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends_are_found() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let mut values: Vec<u64> = (1..=100).rev().collect();
        let found = [0.5, 0.99, 1.0, 0.0].map(|part| percentile(&mut values, part));
        assert_eq!(found, [50.0, 99.0, 100.0, 1.0]);
        assert_eq!((percentile(&mut [7], 0.99), percentile(&mut [], 0.5)), (7.0, 0.0));
    }

    #[test]
    fn two_parts_in_a_row_are_slower_than_either() {
        assert!((harmonic(20.0, 30.0) - 12.0).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let figure = |aim| {
            Figure::new("x", Unit::PerSecond, vec![10.0, 40.0, 90.0]).against("y", vec![10.0, 20.0, 30.0]).aims(aim)
        };
        assert_eq!(figure(Aim::AtMost(1.0)).ratio(), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        for (aim, is_reached) in [
            (Aim::AtLeastOfLimit(2.0), true),
            (Aim::AtLeastOfLimit(2.1), false),
            (Aim::AtMostOfLimit(2.0), true),
            (Aim::AtMostOfLimit(1.9), false),
            (Aim::WithinOfLimit(0.1), true),
            (Aim::AtMost(40.0), true),
            (Aim::AtMost(39.0), false),
        ] {
            assert_eq!(figure(aim).is_reached(), Some(is_reached), "{aim}");
        }
        assert_eq!(Figure::new("x", Unit::PerSecond, vec![]).aims(Aim::AtMost(1.0)).is_reached(), None);
    }
}
