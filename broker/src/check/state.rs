//! How a stream stands: its leader and replicas, and how full it is.

use serde_json::Value;

use super::account::NEARLY_FULL_PERCENT;
use super::finding::Finding;
use crate::names::EVENTS;

/// What is not as it should be: its leader and replicas, and how full it is.
pub(super) fn of_state(name: &str, info: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cluster = &info["cluster"];
    if cluster.is_object() && cluster["leader"].as_str().unwrap_or_default().is_empty() {
        findings.push(Finding::away(name, "it has no leader: nothing can be written to it", "bring its servers back"));
    }
    let is_behind = |replica: &&Value| replica["current"] != true || replica["offline"] == true;
    let behind: Vec<&str> = cluster["replicas"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_behind)
        .filter_map(|replica| replica["name"].as_str())
        .collect();
    if !behind.is_empty() {
        let found = format!("{} has not all of it: one more server that fails may stop it", behind.join(", "));
        findings.push(Finding::warn(name, found, "wait until it has caught up, or bring it back"));
    }
    for (limit, has, of) in [("max_bytes", "bytes", "bytes"), ("max_msgs", "messages", "messages")] {
        let Some(limit) = info["config"][limit].as_i64().filter(|limit| *limit > 0) else { continue };
        let percent = info["state"][has].as_i64().unwrap_or(0).saturating_mul(100) / limit;
        if name == EVENTS && info["config"]["discard"] == "new" && percent >= NEARLY_FULL_PERCENT {
            let found = format!(
                "it holds {percent} % of the {limit} {of} that it may; when it is full, posts are answered 503"
            );
            findings.push(Finding::warn(name, found, "raise the limit, or remove what is old"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stream_without_a_leader_or_room_is_told() {
        let found = |info: Value| of_state(EVENTS, &info).into_iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(found(json!({"config": {"max_bytes": -1}, "state": {"bytes": 5}})), []);
        assert_eq!(found(json!({"cluster": {"name": "c"}})), [Level::Wrong]);
        let replicas = json!([{"name": "2", "current": true}, {"name": "3", "current": true, "offline": true}]);
        assert_eq!(found(json!({"cluster": {"leader": "1", "replicas": replicas}})), [Level::Warn]);
        let full = |discard| json!({"config": {"max_bytes": 100, "discard": discard}, "state": {"bytes": 95}});
        assert_eq!(found(full("new")), [Level::Warn]);
        assert_eq!(found(full("old")), []);
    }
}
