//! `mer dead`: events that subscriptions have given up on, and having them delivered again.

use std::io::{Write, stdout};

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, ApiAccess};
use super::events::{at_least_one, path_with};
use super::moment;
use super::named::Named;
use super::subs::{follow, show, shown};

/// How many are asked for at a time.
const PAGE: usize = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, all of them, oldest first
    Ls(Filter),
    /// Show one dead letter, with its event
    Show {
        /// Its own sequence
        sequence: u64,
    },
    /// Remove dead letters; their events stay in the log
    Rm {
        /// The dead letters' own sequences
        #[arg(required = true)]
        sequences: Vec<u64>,
    },
    /// Have dead letters delivered again to their subscription, and wait until that is done
    Redrive {
        /// The subscription's id, or its URL
        id: String,
        /// The dead letters' own sequences
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        sequences: Vec<u64>,
        /// All that were given up from this moment on: 1h, yesterday, 2026-01-31, a stamp, or RFC 3339
        #[arg(long, value_parser = moment::parse)]
        from: Option<String>,
        /// Up to this moment, if not up to now
        #[arg(long, requires = "from", value_parser = moment::parse)]
        to: Option<String>,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only those of a subscription: its id, or its URL
    #[arg(long)]
    subscription: Option<String>,
    /// Only events of a type or pattern
    #[arg(long = "type")]
    event_type: Option<String>,
    /// Given up from this moment on: 1h, yesterday, 2026-01-31, a stamp, or RFC 3339
    #[arg(long, value_parser = moment::parse)]
    from: Option<String>,
    /// Given up up to this moment
    #[arg(long, value_parser = moment::parse)]
    to: Option<String>,
    /// Begin behind this dead letter
    #[arg(long)]
    after: Option<u64>,
    /// Stop after so many
    #[arg(long, value_parser = at_least_one)]
    limit: Option<usize>,
}

pub(crate) async fn run(command: DeadCommand, access: &ApiAccess) -> anyhow::Result<()> {
    let api = Api::new(access)?;
    match command {
        DeadCommand::Ls(filter) => list(&api, access, filter).await,
        DeadCommand::Show { sequence } => {
            let before = sequence.checked_sub(1).context("sequences begin with 1")?;
            let pairs = [("after", before.to_string()), ("limit", "1".to_owned())];
            let page = api.json(api.request(Method::GET, &path_with("/v1/dead-letters", &pairs))).await?;
            let letter = &page["dead_letters"][0];
            let is_unreadable = page["unreadable"].as_array().is_some_and(|some| some.contains(&sequence.into()));
            anyhow::ensure!(!is_unreadable, "{}", unreadable(&sequence.into()));
            anyhow::ensure!(letter["sequence"] == sequence, "there is no dead letter {sequence}");
            access.show_all(letter)
        }
        DeadCommand::Rm { sequences } => {
            for sequence in sequences {
                let request = api.request(Method::DELETE, &format!("/v1/dead-letters/{sequence}"));
                api.send(request).await.with_context(|| format!("dead letter {sequence}"))?;
                if !access.json {
                    writeln!(stdout(), "removed {sequence}")?;
                }
            }
            Ok(())
        }
        DeadCommand::Redrive { id, sequences, from, to, no_wait } => {
            let named = Named::find(&api, &id).await?;
            let mut body = json!({ "subscription": named.id });
            match from {
                Some(from) => body["from"] = from.into(),
                None => body["sequences"] = sequences.into(),
            }
            if let Some(to) = to {
                body["to"] = to.into();
            }
            let request = api.request(Method::POST, "/v1/dead-letters/redrive").json(&body);
            let started = named.json(&api, request).await?;
            if !access.json {
                writeln!(stdout(), "{} to be delivered again", events(&started["redriven"]))?;
            }
            if no_wait { show(access, &started) } else { follow(&api, access, &named, &started).await }
        }
    }
}

async fn list(api: &Api, access: &ApiAccess, filter: Filter) -> anyhow::Result<()> {
    let Filter { subscription, event_type, from, to, mut after, limit } = filter;
    let subscription = match subscription {
        Some(id) => Some(Named::find(api, &id).await?.id),
        None => None,
    };
    let fixed = [("subscription", subscription), ("type", event_type), ("from", from), ("to", to)];
    let fixed: Vec<(&str, String)> = fixed.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let mut left = limit.unwrap_or(usize::MAX);
    while left > 0 {
        let mut pairs = fixed.clone();
        pairs.push(("limit", left.min(PAGE).to_string()));
        pairs.extend(after.map(|after| ("after", after.to_string())));
        let page = api.json(api.request(Method::GET, &path_with("/v1/dead-letters", &pairs))).await?;
        for letter in page["dead_letters"].as_array().into_iter().flatten() {
            access.show(letter, line_of)?;
            left -= 1;
        }
        for sequence in page["unreadable"].as_array().into_iter().flatten() {
            eprintln!("mer: {}", unreadable(sequence));
        }
        after = page["next"].as_u64();
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

/// What to say of a message among the dead letters that cannot be read.
fn unreadable(sequence: &Value) -> String {
    format!("{sequence} is a message that cannot be read; `mer dead rm {sequence}` removes it")
}

fn events(number: &Value) -> String {
    if *number == 1 { "1 event is".to_owned() } else { format!("{number} events are") }
}

/// One dead letter in a line.
fn line_of(letter: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{:>8}  {}  {}  event {} {}  attempts {}  {}",
        letter["sequence"],
        text(&letter["at"]),
        text(&letter["subscription"]),
        letter["event"]["sequence"],
        text(&letter["event"]["type"]),
        letter["attempts"],
        shown(&letter["error"]),
    )
}
