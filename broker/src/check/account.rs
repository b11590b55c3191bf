//! What the account may have, and what of it is left.

use domain::Stamp;
use serde_json::Value;

use super::finding::Finding;
use crate::settings::Config;

/// From which part of a limit on it is told that it is near, in percent.
pub(super) const NEARLY_FULL_PERCENT: i64 = 90;

/// Within how many days it is told that a limit is near.
const NEARLY_FULL_DAYS: i64 = 7;
/// Since how long the log must have been growing to tell anything.
const LEAST_AGE_SECS: i64 = 3600;

/// In how many days a limit is reached, as the account has grown since the log's first event. `None`: that cannot be told, as
/// the log is too young, or its beginning was removed.
fn days_left(used: i64, limit: i64, log: &Value) -> Option<i64> {
    let state = &log["state"];
    let time = |name: &str| state[name].as_str().and_then(|time| Stamp::parse(time).ok());
    let grew_for = (time("last_ts")?.as_micros() - time("first_ts")?.as_micros()) / 1_000_000;
    if state["first_seq"].as_u64() != Some(1) || grew_for < LEAST_AGE_SECS || used <= 0 {
        return None;
    }
    let left = i128::from(limit.saturating_sub(used)) * i128::from(grew_for) / i128::from(used);
    i64::try_from(left / (24 * 3600)).ok()
}

/// What the account may have, and what of it is left.
pub(super) fn of_account(account: &Value, config: &Config, missing: usize, log: Option<&Value>) -> Vec<Finding> {
    // With tiers, what is allowed depends on the number of replicas.
    let tier = &account["tiers"][format!("R{}", config.replicas)];
    let of = if tier.is_object() { tier } else { account };
    let limit = |name: &str| of["limits"][name].as_i64().filter(|limit| *limit > 0);
    let has = |name: &str| of[name].as_i64().unwrap_or(0);
    let mend = "raise the limits of mer's account in NATS";
    let mut findings = Vec::new();
    if let Some(limit) = limit("max_streams")
        && has("streams") + i64::try_from(missing).unwrap_or(0) > limit
    {
        let found = format!("the account may have {limit} streams, and mer has yet to make {missing}");
        findings.push(Finding::wrong("account", found, mend));
    }
    if missing > 0 && of["limits"]["max_bytes_required"] == true {
        let found = "the account asks for max_bytes of every stream, and mer makes some without";
        findings.push(Finding::wrong("account", found, mend));
    }
    if let Some(limit) = limit("max_storage") {
        let percent = has("storage").saturating_mul(100) / limit;
        let days = log.and_then(|log| days_left(has("storage"), limit, log));
        let lasts = days.map(|days| format!("; as the log has grown, the rest lasts {days} days")).unwrap_or_default();
        let found = format!("{percent} % of the account's {limit} bytes of storage are used{lasts}");
        findings.push(if percent < NEARLY_FULL_PERCENT && days.is_none_or(|days| days >= NEARLY_FULL_DAYS) {
            Finding::ok("account", found)
        } else {
            Finding::warn("account", format!("{found}; when it is full, posts are answered 503"), mend)
        });
    }
    if let Some(limit) = limit("max_consumers") {
        let found = format!("the account may have {limit} consumers, one for each URL: further URLs would get nothing");
        findings.push(Finding::warn("account", found, mend));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("account", "JetStream is on, with no limit of the account's own"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::objects;
    use super::*;
    use serde_json::json;

    #[test]
    fn an_account_without_room_is_told() {
        let config = objects::tests::config(3);
        let free = json!({"max_streams": -1, "max_storage": -1, "max_consumers": -1, "max_bytes_required": false});
        let account = |limits: Value| json!({"streams": 2, "storage": 95, "limits": limits});
        let levels = |account: &Value, missing: usize| -> Vec<Level> {
            of_account(account, &config, missing, None).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels(&account(free.clone()), 7), [Level::Ok]);
        assert_eq!(levels(&account(json!({"max_streams": 7})), 7), [Level::Wrong]);
        assert_eq!(levels(&account(json!({"max_streams": 9})), 7), [Level::Ok]);
        assert_eq!(levels(&account(json!({"max_storage": 100})), 0), [Level::Warn]);
        assert_eq!(levels(&account(json!({"max_storage": 1000})), 0), [Level::Ok]);
        assert_eq!(levels(&account(json!({"max_bytes_required": true})), 1), [Level::Wrong]);
        assert_eq!(levels(&account(json!({"max_bytes_required": true})), 0), [Level::Ok]);
        let tiered = json!({"limits": free, "tiers": {"R3": account(json!({"max_streams": 3}))}});
        assert_eq!(levels(&tiered, 2), [Level::Wrong]);
    }

    #[test]
    fn how_long_the_rest_lasts_is_told_where_the_log_has_grown_from_its_beginning() {
        let log = |first_seq: u64, last_ts: &str| json!({"state": {"first_seq": first_seq, "first_ts": "2026-01-01T00:00:00Z", "last_ts": last_ts}});
        assert_eq!(days_left(100, 1000, &log(1, "2026-01-03T00:00:00Z")), Some(18));
        assert_eq!(days_left(100, 50, &log(1, "2026-01-03T00:00:00Z")).filter(|days| *days > 0), None, "it is over");
        assert_eq!(days_left(100, 1000, &log(7, "2026-01-03T00:00:00Z")), None, "its beginning was removed");
        assert_eq!(days_left(100, 1000, &log(1, "2026-01-01T00:00:07Z")), None, "too young");
        assert_eq!(days_left(100, 1000, &json!({})), None);
        let account = json!({"storage": 500, "limits": {"max_storage": 1000}});
        let found = of_account(&account, &objects::tests::config(1), 0, Some(&log(1, "2026-01-03T00:00:00Z")));
        assert!(found[0].level == Level::Warn && found[0].found.contains("lasts 2 days"), "{found:?}");
    }
}
