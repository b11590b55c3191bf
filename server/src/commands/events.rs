//! `mer events`: reading the log, and adding to it.

use std::io::{IsTerminal, Read, Write, stdout};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::client::{Api, ApiAccess, printable};
use super::moment;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List events, all of them, oldest first
    Ls(Filter),
    /// Show one event
    Get {
        /// Its place in the log
        sequence: u64,
    },
    /// Show events as they come, until Ctrl-C
    Tail {
        /// Only events of a type or pattern
        #[arg(long = "type")]
        event_type: Option<String>,
        /// Begin behind this sequence, not with the next event
        #[arg(long)]
        after: Option<u64>,
    },
    /// Post an event
    Post {
        /// Its type
        event_type: String,
        /// Its data, a JSON object; - reads it from standard input
        data: String,
        /// Posting again with the same key stores nothing
        #[arg(long)]
        key: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only events of a type or pattern: order.created, order.*, order.>
    #[arg(long = "type")]
    event_type: Option<String>,
    /// From this moment on: 1h, yesterday, 2026-01-31, a stamp, or RFC 3339
    #[arg(long, value_parser = moment::parse)]
    from: Option<String>,
    /// Up to this moment
    #[arg(long, value_parser = moment::parse)]
    to: Option<String>,
    /// Only events of a transaction
    #[arg(long)]
    transaction: Option<String>,
    /// Begin behind this sequence
    #[arg(long)]
    after: Option<u64>,
    /// Stop after so many
    #[arg(long, value_parser = at_least_one)]
    limit: Option<usize>,
}

impl Filter {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("type", self.event_type.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("transaction_id", self.transaction.clone()),
            ("after_sequence", self.after.map(|sequence| sequence.to_string())),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

pub(crate) async fn run(command: EventsCommand, access: &ApiAccess) -> anyhow::Result<()> {
    let api = Api::new(access)?;
    match command {
        EventsCommand::Ls(filter) => list(&api, access, &filter).await,
        EventsCommand::Get { sequence } => {
            let event = api.json(api.request(Method::GET, &format!("/v1/events/{sequence}"))).await?;
            access.show_all(&event)
        }
        EventsCommand::Tail { event_type, after } => tail(&api, access, event_type, after).await,
        EventsCommand::Post { event_type, data, key } => post(&api, access, &event_type, data, key).await,
    }
}

async fn list(api: &Api, access: &ApiAccess, filter: &Filter) -> anyhow::Result<()> {
    let request = api.request(Method::GET, &path_with("/v1/events", &filter.pairs()));
    let mut lines = api.lines(request.header("accept", "application/x-ndjson")).await?;
    // Events go to standard output; how many there have been is shown only where they do not cover it.
    let progress = if std::io::stdout().is_terminal() { ProgressBar::hidden() } else { counter() };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut count = 0;
    while let Some(line) = lines.next_line().await? {
        show(&mut out, access, &line)?;
        progress.inc(1);
        count += 1;
        if filter.limit == Some(count) {
            break;
        }
    }
    progress.finish();
    out.flush()?;
    Ok(())
}

async fn tail(api: &Api, access: &ApiAccess, event_type: Option<String>, after: Option<u64>) -> anyhow::Result<()> {
    let pairs: Vec<(&str, String)> = event_type.into_iter().map(|event_type| ("type", event_type)).collect();
    let mut request = api.request(Method::GET, &path_with("/v1/events", &pairs)).header("accept", "text/event-stream");
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let mut lines = api.lines(request).await?;
    let mut notice: Option<String> = None;
    while let Some(line) = lines.next_line().await? {
        if let Some(name) = line.strip_prefix("event:") {
            notice = Some(name.trim().to_owned());
        } else if let Some(data) = line.strip_prefix("data:") {
            match &notice {
                // What mer says of the log: no event of it.
                Some(name) => eprintln!("{name}: {}", data.trim_start()),
                None => show(&mut stdout(), access, data.trim_start())?,
            }
        } else if line.is_empty() {
            notice = None;
        }
    }
    anyhow::bail!("mer has ended the tail")
}

async fn post(
    api: &Api,
    access: &ApiAccess,
    event_type: &str,
    data: String,
    key: Option<String>,
) -> anyhow::Result<()> {
    let data = match data.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            text
        }
        _ => data,
    };
    let mut request = api.request(Method::POST, &format!("/receive_event/{}", encoded(event_type)));
    request = request.header("content-type", "application/json").body(data);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    // Data with a `redirect_url` is answered with a redirection, once it is stored.
    let response = api.send_for(request, |status| status.is_success() || *status == StatusCode::FOUND).await?;
    let sequence =
        response.headers().get("event-sequence").and_then(|value| value.to_str().ok()).unwrap_or("?").to_owned();
    let is_duplicate = response.headers().get("event-duplicate").is_some_and(|value| value == "true");
    let body: Value = response.json().await?;
    let stored = |body: &Value| {
        let event = body["event_received"]["event"].as_str().unwrap_or_default();
        match is_duplicate {
            true => format!("nothing was stored: this key was sent before, and its event is {sequence}: {event}"),
            false => format!("stored as {sequence}: {event}"),
        }
    };
    access.show(&body, stored)
}

/// One event, for people or as it came.
fn show(out: &mut impl Write, access: &ApiAccess, line: &str) -> anyhow::Result<()> {
    if access.json {
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let event: Value = serde_json::from_str(line).context("an unreadable answer")?;
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let data = event.get("data").or_else(|| event.get("data_base64")).cloned().unwrap_or_default();
    let line = format!("{:>8}  {}  {}  {data}", event["sequence"], text("time"), text("type"));
    writeln!(out, "{}", printable(&line))?;
    Ok(())
}

fn counter() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{human_pos} events, {per_sec}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// How many to show: none would be no answer.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "it must be a whole number of at least 1".to_owned())
}

/// A path with a query.
pub(crate) fn path_with(path: &str, pairs: &[(&str, String)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A segment of a path.
pub(crate) fn encoded(segment: &str) -> String {
    url::form_urlencoded::byte_serialize(segment.as_bytes()).collect::<String>().replace('+', "%20")
}
