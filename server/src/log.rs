//! What is logged, and how: an event a line, as text or as JSON, on standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// The crates that are mer's own. What they log of requests, events and settings is chosen so that it holds no secret.
const OWN: [&str; 8] = ["mer", "broker", "dispatcher", "domain", "receiver", "registrar", "spans", "web"];
/// What others may say at most: below that, libraries show headers, frames and payloads as they come by.
const OTHERS: Level = Level::INFO;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// An object a line, for programs
    Json,
}

/// Logs what the directives let through, from now on. Directives that are none are taken for `info`.
pub(crate) fn start(directives: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter).with(FilterFn::new(may_be_logged));
    let lines = fmt::layer().with_writer(|| OneLine(io::stderr()));
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => {
            let objects = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(objects).init();
        }
    }
}

/// Whether an event may be logged at all. `MER_LOG` cannot change this.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= OTHERS || is_own(metadata.target())
}

fn is_own(target: &str) -> bool {
    target.split("::").next().is_some_and(|name| OWN.contains(&name))
}

/// Keeps an event on its line: line breaks in its fields are escaped. Each event arrives in one write.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line)?;
        Ok(line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return self.0.write_all(line);
        }
        let mut escaped = Vec::with_capacity(line.len() + 16);
        for byte in text {
            match byte {
                b'\n' => escaped.extend_from_slice(b"\\n"),
                b'\r' => escaped.extend_from_slice(b"\\r"),
                other => escaped.push(*other),
            }
        }
        escaped.extend_from_slice(&line[text.len()..]);
        self.0.write_all(&escaped)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mers_own_is_logged_below_info() {
        for (target, expected) in [
            ("mer::serve", true),
            ("mer", true),
            ("dispatcher::worker::trying", true),
            ("spans::collector", true),
            ("async_nats::connection", false),
            ("hyper::proto::h1::conn", false),
            ("h2::codec", false),
            ("merkle", false),
            ("webpki", false),
            ("log", false),
        ] {
            assert_eq!(is_own(target), expected, "{target}");
        }
    }

    #[test]
    fn an_event_stays_on_its_line() {
        for (line, expected) in [
            ("plain\n", "plain\n"),
            ("forged\n2026 INFO all is well\n", "forged\\n2026 INFO all is well\n"),
            ("a\r\nb", "a\\r\\nb"),
            ("\n", "\n"),
            ("", ""),
        ] {
            let mut written = Vec::new();
            OneLine(&mut written).write_all(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }
}
