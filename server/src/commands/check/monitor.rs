//! What nats-server's monitoring shows and a client cannot see: when what is acknowledged is on disk.

use std::time::Duration;

use anyhow::Context;
use broker::check::{Finding, of_clock};
use domain::Stamp;
use serde_json::Value;
use url::Url;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(4);
/// From which part of what it may use on it is told that it is nearly full.
const NEARLY_FULL_PERCENT: u64 = 90;

/// Looks at each server's monitoring.
pub(super) async fn look(monitors: &[Url], replicas: usize) -> anyhow::Result<Vec<Finding>> {
    if monitors.is_empty() {
        return Ok(vec![Finding::note(
            "durability",
            "when what is acknowledged is on disk (sync_interval), nats-server tells its monitoring only",
            "name it with --monitor, like http://127.0.0.1:8222, to have it checked",
        )]);
    }
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().context("making the HTTP client")?;
    let mut findings = Vec::new();
    for monitor in monitors {
        let shown = monitor.as_str().trim_end_matches('/');
        let before = Stamp::now();
        let answer = async { client.get(format!("{shown}/varz")).send().await?.error_for_status()?.json().await };
        match answer.await {
            Ok(varz) => findings.extend(judge(shown, &varz, before, Stamp::now(), replicas)),
            Err(error) => findings.push(Finding::warn(
                shown,
                format!("its monitoring does not answer: {}", error.without_url()),
                "http: \"127.0.0.1:8222\" in nats-server's configuration, or another --monitor",
            )),
        }
    }
    Ok(findings)
}

fn judge(what: &str, varz: &Value, before: Stamp, after: Stamp, replicas: usize) -> Vec<Finding> {
    let config = &varz["jetstream"]["config"];
    let interval = config["sync_interval"].as_u64().map(Duration::from_nanos);
    let durability = match interval {
        _ if config["sync_always"] == true => {
            Finding::ok(what, "what is acknowledged is on disk (sync_interval: always)")
        }
        None => {
            Finding::wrong(what, "JetStream is off on this server", "jetstream { store_dir: … } in its configuration")
        }
        Some(interval) if replicas > 1 => Finding::warn(
            what,
            format!(
                "if it loses power while another node lacks events, or all nodes lose power, up to {interval:?} of what was \
                 acknowledged are gone"
            ),
            "jetstream { sync_interval: always } in each node's configuration",
        ),
        Some(interval) => Finding::warn(
            what,
            format!("if its machine loses power, up to {interval:?} of what was acknowledged are gone"),
            "jetstream { sync_interval: always } in its configuration",
        ),
    };
    let mut findings = vec![durability];
    findings.extend(of_room(what, &varz["jetstream"]));
    if let Some(Ok(now)) = varz["now"].as_str().map(Stamp::parse) {
        findings.push(Finding { what: format!("clock of {what}"), ..of_clock(now, before, after) });
    }
    findings
}

/// What JetStream has used of what it may, on this server.
fn of_room(what: &str, jetstream: &Value) -> Option<Finding> {
    let (used, most) = (jetstream["stats"]["storage"].as_u64()?, jetstream["config"]["max_storage"].as_u64()?);
    let what = format!("storage of {what}");
    let mend = "make room on its disk, and set max_file_store in its configuration (by default it is a part of what is free \
                when it starts)";
    Some(match used.saturating_mul(100).checked_div(most) {
        None => Finding::wrong(what, "it may store nothing (Max Storage: 0 B): it was started on a full disk", mend),
        Some(percent) => {
            let found = format!("{percent} % of the {most} bytes that it may use are used");
            let is_near = percent >= NEARLY_FULL_PERCENT;
            if is_near { Finding::warn(what, found, mend) } else { Finding::ok(what, found) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::check::Level;
    use serde_json::json;

    #[test]
    fn a_server_that_acknowledges_before_it_writes_is_told() {
        let now = Stamp::from_micros(1_000_000_000_000);
        let of = |config: Value, replicas| {
            let varz = json!({"now": now.to_rfc3339(), "jetstream": {"config": config}});
            judge("nats", &varz, now, now, replicas).into_iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        let two_minutes = || json!({"sync_interval": 120_000_000_000_u64});
        assert_eq!(of(json!({"sync_always": true, "sync_interval": 1}), 1), [Level::Ok, Level::Ok]);
        assert_eq!(of(two_minutes(), 1), [Level::Warn, Level::Ok]);
        assert_eq!(of(two_minutes(), 3), [Level::Warn, Level::Ok]);
        assert_eq!(of(json!({"sync_interval": 100_000_000}), 3), [Level::Warn, Level::Ok]);
        assert_eq!(of(json!(null), 1), [Level::Wrong, Level::Ok]);
    }

    #[test]
    fn a_server_that_may_store_nothing_or_hardly_anything_more_is_told() {
        let of = |used: u64, most: u64| {
            of_room("nats", &json!({"stats": {"storage": used}, "config": {"max_storage": most}}))
                .map(|found| found.level)
        };
        assert_eq!(of(10, 100), Some(Level::Ok));
        assert_eq!(of(95, 100), Some(Level::Warn));
        assert_eq!(of(0, 0), Some(Level::Wrong));
        assert!(of_room("nats", &json!({})).is_none());
    }
}
