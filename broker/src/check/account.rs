//! What the account may have, and what of it is left.

use serde_json::Value;

use super::finding::Finding;
use crate::settings::Config;

/// From which part of a limit on it is told that it is near, in percent.
pub(super) const NEARLY_FULL_PERCENT: i64 = 90;

/// What the account may have, and what of it is left.
pub(super) fn of_account(account: &Value, config: &Config, missing: usize) -> Vec<Finding> {
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
        let found = format!("{percent} % of the account's {limit} bytes of storage are used");
        findings.push(if percent < NEARLY_FULL_PERCENT {
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
            of_account(account, &config, missing).iter().map(|finding| finding.level).collect()
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
}
