//! `mer check`: whether NATS is as mer needs it. It checks what a client can see of servers, account, objects and clock, and
//! says how to mend each fault. It makes and changes nothing.

mod account;
mod clock;
mod finding;
mod holes;
mod log;
mod lost;
mod objects;
mod server;
mod state;

use async_nats::jetstream::stream;
use domain::Stamp;
use futures_util::future::join_all;
use serde_json::Value;

use crate::settings::{BadConfig, Config, addresses_of};
use crate::topology::{Kind, OBJECTS};
pub use clock::{of_clock, of_last_event};
pub use finding::{Finding, Level};
use server::{Server, reach};

/// Checks everything. `max_body_bytes` is the largest body that senders may post.
pub async fn check(config: &Config, max_body_bytes: usize) -> Result<Vec<Finding>, BadConfig> {
    let mut servers = Vec::new();
    for address in addresses_of(&config.url)? {
        servers.push(reach(config, address));
    }
    let mut findings = Vec::new();
    let mut reached = Vec::new();
    for server in join_all(servers).await {
        match server? {
            Ok(server) => {
                findings.extend(server.judge(max_body_bytes));
                reached.push(server);
            }
            Err(finding) => findings.push(finding),
        }
    }
    let Some(server) = reached.first() else { return Ok(findings) };
    for finding in &mut findings {
        // mer goes to another one meanwhile.
        if finding.may_pass && finding.level == Level::Wrong {
            finding.level = Level::Warn;
        }
    }
    findings.extend(of_jetstream(server, config, max_body_bytes).await);
    Ok(findings)
}

/// Account, objects and clock, as the first server that lets mer in shows them.
async fn of_jetstream(server: &Server, config: &Config, max_body_bytes: usize) -> Vec<Finding> {
    let account = match server.ask("$JS.API.INFO").await {
        Ok(account) => account,
        Err(finding) => return vec![finding],
    };
    let began = Stamp::now();
    let infos = join_all(OBJECTS.map(|(name, _)| server.ask_about(name))).await;
    let mut findings = Vec::new();
    let (mut missing, mut clock, mut log) = (Vec::new(), None, None);
    for ((name, kind), info) in OBJECTS.into_iter().zip(infos) {
        match info {
            Ok(Some(info)) => {
                findings.extend(of_object(name, kind, &info, config, max_body_bytes));
                if kind == Kind::Log {
                    log = Some(info.clone());
                    findings.extend(holes::of_log(&info, server.log_holes().await.as_ref()));
                }
                clock = clock.or(info["ts"].as_str().and_then(|time| Stamp::parse(time).ok()));
            }
            Ok(None) => missing.push(name),
            Err(finding) => findings.push(finding),
        }
    }
    let mut all = account::of_account(&account, config, missing.len(), log.as_ref());
    all.extend(findings);
    if !missing.contains(&"KV_LOG")
        && let Some(record) = server.log_record().await
    {
        all.push(log::of_record(&record, Stamp::now()));
    }
    if !missing.contains(&"KV_LANES") && !missing.contains(&"KV_SUBSCRIPTIONS") {
        all.extend(lost::of_buckets(server).await);
    }
    if !missing.is_empty() {
        let mend = "start mer as a user who may make them (STREAM.CREATE); it does so by itself";
        all.push(Finding::note("objects", format!("not made yet: {}", missing.join(", ")), mend));
    }
    all.push(match clock {
        Some(clock) => of_clock(clock, began, Stamp::now()),
        None => Finding::note("clock", "NATS shows its clock with a stream only, and there is none yet", ""),
    });
    all.extend(server.last_event().await.as_ref().and_then(of_last_event));
    all
}

fn of_object(name: &str, kind: Kind, info: &Value, config: &Config, max_body_bytes: usize) -> Vec<Finding> {
    let has: stream::Config = match serde_json::from_value(info["config"].clone()) {
        Ok(has) => has,
        Err(error) => return vec![Finding::wrong(name, format!("its settings cannot be read: {error}"), "")],
    };
    let mut findings = objects::judge(kind, &has, config, max_body_bytes);
    findings.extend(state::of_state(name, info));
    if findings.is_empty() {
        let what = match kind {
            Kind::Log => format!("; {}", objects::limits_of_log(&has)),
            _ => String::new(),
        };
        let copies = if has.num_replicas == 1 { "1 copy".to_owned() } else { format!("{} copies", has.num_replicas) };
        let storage = serde_json::to_value(has.storage).unwrap_or_default();
        findings.push(Finding::ok(name, format!("{copies} ({}){what}", storage.as_str().unwrap_or("?"))));
    }
    findings
}
