//! `mer log`: which log it is, and how much of it there is.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, ApiAccess};

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Which log it is, where it begins and ends, and what it may hold
    Status,
    /// All names that the log has had, oldest first, and why it got each
    Epochs,
    /// Declare another epoch: the log is another one, and mer cannot find that out
    NewEpoch {
        /// Why, for those who read it later
        #[arg(long)]
        reason: String,
    },
}

pub(crate) async fn run(command: LogCommand, access: &ApiAccess) -> anyhow::Result<()> {
    let api = Api::new(access)?;
    match command {
        LogCommand::Status => access.show(&api.json(api.request(Method::GET, "/v1/log")).await?, status),
        LogCommand::Epochs => {
            let log = api.json(api.request(Method::GET, "/v1/log")).await?;
            log["epochs"].as_array().into_iter().flatten().try_for_each(|epoch| access.show(epoch, line_of))
        }
        LogCommand::NewEpoch { reason } => {
            let request = api.request(Method::POST, "/v1/log/epochs").json(&json!({ "reason": reason }));
            access.show(&api.json(request).await?, line_of)
        }
    }
}

fn line_of(epoch: &Value) -> String {
    let text = |name: &str| epoch[name].as_str().unwrap_or_default();
    format!("{}  from {}  {}  {}", text("epoch"), epoch["from_sequence"], text("at"), text("reason"))
}

fn status(log: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let mut lines = vec![
        format!("epoch   {}", text(&log["epoch"])),
        format!("events  {} ({} bytes)", log["events"], log["bytes"]),
        format!("first   {}  {}", log["first_sequence"], text(&log["first_time"])),
        format!("last    {}  {}", log["last_sequence"], text(&log["last_time"])),
    ];
    for hole in log["holes"].as_array().into_iter().flatten() {
        let (from, to, missing) = (&hole["from_sequence"], &hole["to_sequence"], &hole["missing"]);
        lines.push(format!(
            "hole    {from} to {to}  {missing} missing  {}  {}",
            text(&hole["reason"]),
            text(&hole["noticed"])
        ));
    }
    let limits = &log["limits"];
    for (name, of) in [("max_age_secs", "seconds"), ("max_bytes", "bytes"), ("max_events", "events")] {
        if let Some(limit) = limits[name].as_u64() {
            lines.push(format!("limit   {limit} {of} (discards {})", text(&limits["discard"])));
        }
    }
    lines.join("\n")
}
