//! `mer subs`: what is registered, and how it stands. [`add`]: registering; [`set`]: settings.

pub(crate) mod add;
mod set;

use std::io::{Write, stderr, stdout};
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use registrar::requests::DEFAULT_GRACE_SECS;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Api, ApiAccess, is_refused_with};
use super::events::{at_least_one, path_with};
use super::named::Named;
use super::{moment, table};

/// How often the progress of a replay is looked up.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum SubsCommand {
    /// List subscriptions with their states
    Ls {
        /// Only those of a group
        #[arg(long)]
        group: Option<String>,
    },
    /// Show one subscription
    Get {
        /// Its id, or its URL
        id: String,
    },
    /// Register a URL for types or patterns
    Add {
        /// Where events go
        target: String,
        /// Types or patterns
        #[arg(required = true)]
        types: Vec<String>,
        #[command(flatten)]
        attributes: Box<add::Attributes>,
    },
    /// Change how deliveries are made, or the group: NAME=VALUE, such as timeout_ms=5000, mode=batched or group=billing; without
    /// a value it is as by default
    Set {
        /// Its id, or its URL
        id: String,
        /// What to change
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = set::setting)]
        settings: Vec<(String, Value)>,
    },
    /// Remove a subscription
    Rm {
        /// Its id, or its URL
        id: String,
    },
    /// Have its deliveries wait
    Pause {
        /// Its id, or its URL
        id: String,
    },
    /// Have its deliveries go on where they were
    Resume {
        /// Its id, or its URL
        id: String,
    },
    /// Post a test to its target, which is no event, and show what came of it
    Test {
        /// Its id, or its URL
        id: String,
    },
    /// Make a new secret to sign deliveries with, and show it this once (for v1a: its public key)
    RotateSecret {
        /// Its id, or its URL
        id: String,
        /// v1: HMAC-SHA256; v1a: ed25519
        #[arg(long = "type", value_parser = ["v1", "v1a"], default_value = "v1")]
        kind: String,
        /// How long the secrets of this type that there are go on signing, in seconds
        #[arg(long, default_value_t = DEFAULT_GRACE_SECS)]
        grace_secs: u64,
    },
    /// Show the last attempts to deliver, the latest first
    Attempts {
        /// Its id, or its URL
        id: String,
        /// Only those that failed
        #[arg(long)]
        failed: bool,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = at_least_one)]
        limit: usize,
    },
    /// Deliver a part of the log again, and wait until that is done
    Replay {
        /// Its id, or its URL
        id: String,
        /// From this moment on: 1h, yesterday, 2026-01-31, a stamp, or RFC 3339
        #[arg(long, value_parser = moment::parse)]
        from: String,
        /// Up to this moment, if not up to now
        #[arg(long, value_parser = moment::parse)]
        to: Option<String>,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
}

pub(crate) async fn run(command: SubsCommand, access: &ApiAccess) -> anyhow::Result<()> {
    let api = Api::new(access)?;
    match command {
        SubsCommand::Ls { group } => list(&api, access, group).await,
        SubsCommand::Get { id } => {
            let named = Named::find(&api, &id).await?;
            access.show_all(&named.json(&api, named.request(&api, Method::GET, "")).await?)
        }
        SubsCommand::Add { target, types, attributes } => add::add(&api, access, &target, &types, *attributes).await,
        SubsCommand::Set { id, settings } => {
            let named = Named::find(&api, &id).await?;
            let request = named.request(&api, Method::PATCH, "").json(&set::patch_of(settings));
            show(access, &named.json(&api, request).await?)
        }
        SubsCommand::Rm { id } => {
            let named = Named::find(&api, &id).await?;
            api.send(named.request(&api, Method::DELETE, "")).await.map_err(|error| named.told(error))?;
            Ok(())
        }
        SubsCommand::Pause { id } => act(&api, access, &id, "pause").await,
        SubsCommand::Resume { id } => act(&api, access, &id, "resume").await,
        SubsCommand::Test { id } => test(&api, access, &id).await,
        SubsCommand::RotateSecret { id, kind, grace_secs } => {
            let body = json!({"type": kind, "grace_secs": grace_secs});
            let named = Named::find(&api, &id).await?;
            let answer = named.json(&api, named.request(&api, Method::POST, "/rotate-secret").json(&body)).await?;
            let either = |answer: &Value| {
                ["secret", "public_key"].iter().find_map(|name| answer[name].as_str().map(str::to_owned))
            };
            access.show(&answer, |answer| either(answer).unwrap_or_default())
        }
        SubsCommand::Attempts { id, failed, limit } => attempts(&api, access, &id, failed, limit).await,
        SubsCommand::Replay { id, from, to, no_wait } => {
            let mut body = json!({ "from": from });
            if let Some(to) = to {
                body["to"] = to.into();
            }
            let named = Named::find(&api, &id).await?;
            let started = named.json(&api, named.request(&api, Method::POST, "/replay").json(&body)).await?;
            if no_wait { show(access, &started) } else { follow(&api, access, &named, &started).await }
        }
    }
}

async fn list(api: &Api, access: &ApiAccess, group: Option<String>) -> anyhow::Result<()> {
    let all = subscriptions(api, group).await?;
    if access.json {
        return all.iter().try_for_each(|subscription| show(access, subscription));
    }
    if all.is_empty() {
        let _ = writeln!(stderr(), "no subscriptions");
        return Ok(());
    }
    for line in in_a_table(&all) {
        writeln!(stdout(), "{line}")?;
    }
    Ok(())
}

/// Subscriptions as the lines of a table, under a header.
pub(crate) fn in_a_table<'a>(subscriptions: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let row = |subscription: &Value| {
        let status = &subscription["status"];
        let mut rest = types_of(subscription);
        rest.extend(fault_of(subscription));
        vec![
            table::coloured(status["state"].as_str().unwrap_or_default()),
            status["position"].to_string(),
            status["lag"].as_u64().map_or_else(|| "?".to_owned(), |lag| lag.to_string()),
            subscription["url"].as_str().unwrap_or_default().to_owned(),
            subscription["id"].as_str().unwrap_or_default().to_owned(),
            rest.join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = subscriptions.into_iter().map(row).collect();
    table::lines(&["STATE", "POSITION", "LAG", "URL", "ID", "TYPES"], &rows, table::width())
}

/// Whether it delivers what comes, or has had all.
pub(crate) fn is_well(subscription: &Value) -> bool {
    matches!(subscription["status"]["state"].as_str(), Some("active" | "completed"))
}

fn types_of(subscription: &Value) -> Vec<String> {
    let types: Vec<&str> =
        subscription["events"].as_array().into_iter().flatten().filter_map(|event| event["type"].as_str()).collect();
    vec![types.join(", ")]
}

/// What the last attempt came to, where the subscription is not well: a healthy one has taken an event since, or will.
fn fault_of(subscription: &Value) -> Option<String> {
    if let Some(hole) = hole_of(&subscription["status"]) {
        return Some(hole);
    }
    let error = &subscription["status"]["last_attempt"]["error"];
    (!is_well(subscription) && error.is_string()).then(|| format!("({})", shown(error)))
}

/// At which hole in the log a subscription waits, and what to do.
fn hole_of(status: &Value) -> Option<String> {
    let hole = &status["hole"];
    let waits = status["state"] == "gap" && hole.is_object() && hole["from_sequence"] == status["gap"]["from_sequence"];
    waits.then(|| {
        let (from, to) = (&hole["from_sequence"], &hole["to_sequence"]);
        format!("(the log has lost {from} to {to}: have senders send them again, then `mer subs resume`)")
    })
}

/// Every subscription (of a group), page by page.
pub(crate) async fn subscriptions(api: &Api, group: Option<String>) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut pairs: Vec<(&str, String)> = group.into_iter().map(|group| ("group", group)).collect();
    loop {
        let page = api.json(api.request(Method::GET, &path_with("/v1/subscriptions", &pairs))).await?;
        all.extend(page["subscriptions"].as_array().into_iter().flatten().cloned());
        let Some(next) = page["next"].as_str() else { return Ok(all) };
        pairs.retain(|(name, _)| *name != "after");
        pairs.push(("after", next.to_owned()));
    }
}

async fn act(api: &Api, access: &ApiAccess, id: &str, action: &str) -> anyhow::Result<()> {
    let named = Named::find(api, id).await?;
    let subscription = named.json(api, named.request(api, Method::POST, &format!("/{action}"))).await?;
    show(access, &subscription)
}

/// Posts a test to a target. One that is not taken is an error.
async fn test(api: &Api, access: &ApiAccess, id: &str) -> anyhow::Result<()> {
    let named = Named::find(api, id).await?;
    let answer = named.json(api, named.request(api, Method::POST, "/test")).await?;
    let outcome = &answer["outcome"];
    if access.json {
        writeln!(stdout(), "{answer}")?;
    }
    match (outcome.is_null(), outcome["error"].as_str()) {
        (true, _) => bail!("nothing has come of it yet: does a dispatcher run?"),
        (false, Some(error)) => bail!("{error} {}", shown(&outcome["answer"])),
        (false, None) if access.json => Ok(()),
        (false, None) => {
            writeln!(stdout(), "answered {} in {} ms", outcome["code"], outcome["duration_ms"])?;
            Ok(())
        }
    }
}

async fn attempts(api: &Api, access: &ApiAccess, id: &str, failed: bool, limit: usize) -> anyhow::Result<()> {
    let mut pairs = vec![("limit", limit.to_string())];
    if failed {
        pairs.push(("outcome", "failed".to_owned()));
    }
    let named = Named::find(api, id).await?;
    let answer = named.json(api, named.request(api, Method::GET, &path_with("/attempts", &pairs))).await?;
    for attempt in answer["attempts"].as_array().into_iter().flatten() {
        access.show(attempt, line_of_attempt)?;
    }
    Ok(())
}

fn line_of_attempt(attempt: &Value) -> String {
    format!(
        "{}  {:>8}  attempt {}  {} ms  {} {}",
        attempt["at"].as_str().unwrap_or_default(),
        attempt["sequence"],
        attempt["attempt"],
        attempt["duration_ms"],
        attempt["error"].as_str().unwrap_or("delivered"),
        shown(&attempt["answer"]),
    )
}

/// Shows the progress of a replay until it is finished.
pub(crate) async fn follow(api: &Api, access: &ApiAccess, named: &Named, started: &Value) -> anyhow::Result<()> {
    let bar = ProgressBar::new(started["status"]["replay"]["total"].as_u64().unwrap_or(0));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} of the log, {per_sec}, {eta} to go") {
        bar.set_style(style);
    }
    loop {
        let subscription = match named.json(api, named.request(api, Method::GET, "")).await {
            // It has begun all the same: a token may be good for that alone.
            Err(error) if is_refused_with(&error, StatusCode::FORBIDDEN) => {
                bar.finish_and_clear();
                let _ = writeln!(stderr(), "it has begun; to see how it goes on takes a token with the scope `read`");
                return show(access, started);
            }
            subscription => subscription?,
        };
        let status = &subscription["status"];
        bar.set_position(status["replay"]["done"].as_u64().unwrap_or(0));
        if status["replay"]["is_finished"] == true {
            bar.finish();
            return show(access, &subscription);
        }
        if let Some(state @ ("paused" | "gap" | "gone" | "forked")) = status["state"].as_str() {
            bail!("the subscription's state is {state}; the replay goes on when it is resumed");
        }
        tokio::time::sleep(PROGRESS_INTERVAL).await;
    }
}

/// One subscription in a line, or as JSON.
pub(crate) fn show(access: &ApiAccess, subscription: &Value) -> anyhow::Result<()> {
    access.show(subscription, line_of)
}

fn line_of(subscription: &Value) -> String {
    let status = &subscription["status"];
    let line = format!(
        "{}  {}  position {}  lag {}  {}  {}",
        subscription["id"].as_str().unwrap_or_default(),
        status["state"].as_str().unwrap_or_default(),
        status["position"],
        status["lag"],
        subscription["url"].as_str().unwrap_or_default(),
        types_of(subscription).join(", "),
    );
    match fault_of(subscription) {
        Some(fault) => format!("{line}  {fault}"),
        None => line,
    }
}

/// What a target said, without what would drive a terminal.
pub(crate) fn shown(answer: &Value) -> String {
    answer.as_str().unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
