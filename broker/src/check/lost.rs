//! Subscriptions that the bucket `SUBSCRIPTIONS` has lost: their lanes are there, and nothing says that they were removed.

use super::finding::Finding;
use super::server::Server;
use crate::names::{LANES, SUBSCRIPTIONS};

/// How many are looked at, and named.
const MOST: usize = 20;

/// Compares the two buckets.
pub(super) async fn of_buckets(server: &Server) -> Option<Finding> {
    let (lanes, subscriptions) = (server.keys_of(LANES).await?, server.keys_of(SUBSCRIPTIONS).await?);
    let mut lost = Vec::new();
    for id in lanes.difference(&subscriptions).take(MOST) {
        // A lane that was cleared away is marked as long as its subscription, and a moment longer.
        if server.holds(LANES, id).await {
            lost.push(id.clone());
        }
    }
    of_lost(&lost)
}

fn of_lost(lost: &[String]) -> Option<Finding> {
    if lost.is_empty() {
        return None;
    }
    let found = format!("it has lost what was registered for {}: their lanes are there", lost.join(", "));
    let mend = "register them again, and they go on where they were; or remove them for good: mer subs rm ID";
    Some(Finding::warn(format!("KV_{SUBSCRIPTIONS}"), found, mend))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn what_is_lost_is_named() {
        assert_eq!(of_lost(&[]), None);
        let found = of_lost(&["a_1".to_owned(), "b_2".to_owned()]).unwrap();
        assert!(found.level == Level::Warn && found.found.contains("a_1, b_2"), "{found:?}");
    }
}
