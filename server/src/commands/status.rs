//! `mer status`: how all stands, and what needs attention.

use std::collections::BTreeMap;
use std::io::{Write, stdout};

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, ApiAccess};
use super::subs::{in_a_table, is_well, subscriptions};
use super::table;

pub(crate) async fn run(access: &ApiAccess) -> anyhow::Result<()> {
    let api = Api::new(access)?;
    let all = subscriptions(&api, None).await?;
    let need: Vec<&Value> = all.iter().filter(|subscription| !is_well(subscription)).collect();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for subscription in &all {
        *states.entry(subscription["status"]["state"].as_str().unwrap_or("unknown")).or_default() += 1;
    }
    let lags = || all.iter().map(|subscription| &subscription["status"]["lag"]);
    let lag: u64 = lags().filter_map(Value::as_u64).sum();
    let unknown = lags().filter(|lag| lag.is_null()).count();
    // Who may see the subscriptions may not see the log, and another process may serve it.
    let log = api.json(api.request(Method::GET, "/v1/log")).await.ok();
    let end = log.as_ref().map_or(Value::Null, |log| log["last_sequence"].clone());
    let furthest = all.iter().filter_map(|subscription| subscription["status"]["position"].as_u64()).max().unwrap_or(0);
    if access.json {
        let ids: Vec<&Value> = need.iter().map(|subscription| &subscription["id"]).collect();
        let status = json!({"subscriptions": all.len(), "states": states, "lag": lag, "lag_unknown": unknown, "log_end": end, "position": furthest, "need_attention": ids});
        writeln!(stdout(), "{status}")?;
        return Ok(());
    }
    let states: Vec<String> =
        states.iter().map(|(state, number)| format!("{number} {}", table::coloured(state))).collect();
    let states = if states.is_empty() { "no subscriptions".to_owned() } else { states.join(", ") };
    writeln!(stdout(), "subscriptions  {} ({states})", all.len())?;
    let unknown = if unknown == 0 { String::new() } else { format!(", and of {unknown} it is not known") };
    match &log {
        Some(log) => {
            let stored = log["last_time"].as_str().map(|at| format!(", stored at {at}")).unwrap_or_default();
            writeln!(stdout(), "log            ends with {end}{stored}")?;
        }
        None => writeln!(stdout(), "log            its end is not known here")?,
    }
    writeln!(stdout(), "lag            {lag} events wait{unknown}")?;
    writeln!(stdout(), "position       {furthest}, the furthest that any has come")?;
    if need.is_empty() {
        writeln!(stdout(), "nothing needs attention")?;
        return Ok(());
    }
    writeln!(stdout(), "need attention:")?;
    for line in in_a_table(need) {
        writeln!(stdout(), "{line}")?;
    }
    Ok(())
}
