//! The table, for people.

use crate::measure::{Figure, Spread};

const HEAD: [&str; 7] = ["figure", "median (min to max)", "limit in the same run", "its median", "ratio", "reach", ""];

/// One line for each figure, its columns below each other.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(figures.iter().map(line));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let pad = |line: &[String; 7]| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut text: Vec<String> = lines.iter().map(pad).collect();
    let notes = figures.iter().filter(|figure| !figure.note.is_empty());
    text.push(String::new());
    text.extend(notes.map(|figure| format!("{}: {}", figure.what, figure.note)));
    text.join("\n")
}

fn line(figure: &Figure) -> [String; 7] {
    let unit = figure.unit;
    let value = Spread::of(&figure.values).map_or("–".to_owned(), |Spread { median, min, max }| {
        format!("{}{unit} ({} to {})", number(median), number(min), number(max))
    });
    let limit = figure.limit.as_ref();
    let limit_median = limit.and_then(|limit| Spread::of(&limit.values));
    let reached = match figure.is_reached() {
        Some(true) => "reached",
        Some(false) => "NOT reached",
        None => "",
    };
    [
        figure.what.clone(),
        value,
        limit.map(|limit| limit.what.clone()).unwrap_or_default(),
        limit_median.map(|spread| format!("{}{unit}", number(spread.median))).unwrap_or_default(),
        figure
            .ratio()
            .map(|ratio| format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max))
            .unwrap_or_default(),
        figure.aim.map(|aim| aim.to_string()).unwrap_or_default(),
        reached.to_owned(),
    ]
}

/// With as many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => thousands(value.round() as i64),
    }
}

fn thousands(value: i64) -> String {
    match value.abs() {
        0..1000 => value.to_string(),
        _ => format!("{},{:03}", thousands(value / 1000), (value % 1000).abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Aim, Unit};

    #[test]
    fn numbers_have_three_digits_that_say_something() {
        let shown = [0.1234, 12.34, 123.4, 1234.5, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.12", "12.3", "123", "1,235", "1,234,567"]);
    }

    #[test]
    fn a_line_says_whether_it_is_reached() {
        let figure = Figure::new("events", Unit::PerSecond, vec![70.0, 80.0, 90.0]);
        let figure =
            figure.against("limit", vec![100.0, 100.0, 100.0]).aims(Aim::AtLeastOfLimit(0.8)).note("none missing");
        let text = table(&[figure.clone(), figure.aims(Aim::AtLeastOfLimit(0.9))]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("80.0/s (70.0 to 90.0)") && lines[1].ends_with("≥ 0.8 ×  reached"), "{text}");
        assert!(lines[2].ends_with("NOT reached") && text.ends_with("events: none missing"), "{text}");
    }
}
