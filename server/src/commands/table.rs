//! Rows under a header, in columns as wide as what stands in them, and no wider than the terminal.

use console::{Term, measure_text_width, truncate_str};

/// What stands between columns.
const GAP: &str = "  ";

/// How wide the terminal is that standard output is; `None` where it is none, so that nothing is cut.
pub(crate) fn width() -> Option<usize> {
    let terminal = Term::stdout();
    terminal.is_term().then(|| terminal.size().1.into())
}

/// The lines of a table. The last column takes what the terminal has left.
pub(crate) fn lines(header: &[&str], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let widest = |column: usize| all().filter_map(|row| row.get(column)).map(|text| measure_text_width(text)).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| widest(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (text, width) in row.iter().zip(&widths) {
            line.push_str(text);
            line.extend(std::iter::repeat_n(' ', width - measure_text_width(text)));
            line.push_str(GAP);
        }
        let line = line.trim_end();
        width.map_or_else(|| line.to_owned(), |width| truncate_str(line, width, "…").into_owned())
    };
    all().map(line).collect()
}

/// A state in its colour, where there is a terminal that shows colours.
pub(crate) fn coloured(state: &str) -> String {
    let style = console::Style::new();
    let style = match state {
        "active" => style.green(),
        "held" | "gap" | "gone" | "forked" => style.red(),
        "paused" => style.yellow(),
        _ => style,
    };
    style.apply_to(state).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(texts: [&str; 3]) -> Vec<String> {
        texts.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them_and_lines_as_the_terminal() {
        let rows = [row(["a", "held", "http://host/ü/longer"]), row(["longer", "\u{1b}[31mgone\u{1b}[0m", ""])];
        assert_eq!(
            lines(&["ID", "STATE", "URL"], &rows, None),
            ["ID      STATE  URL", "a       held   http://host/ü/longer", "longer  \u{1b}[31mgone\u{1b}[0m"]
        );
        let cut = lines(&["ID", "STATE", "URL"], &rows, Some(20));
        assert_eq!(cut[1], "a       held   http…");
        assert!(cut.iter().all(|line| measure_text_width(line) <= 20));
    }
}
