//! A hole in the log as every service shows it.

use domain::log_holes::{Hole, Reason};
use serde::Serialize;
use utoipa::ToSchema;

/// Sequences of the log that hold no event
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Hole)]
#[schema(example = json!({"from_sequence": 1229, "to_sequence": 1638, "missing": 410, "reason": "lost", "noticed": "2026-01-31T09:30:00.000000Z"}))]
pub struct HoleView {
    /// The first sequence of it
    from_sequence: u64,
    /// The last sequence of it
    to_sequence: u64,
    /// How many of its sequences hold no event: fewer than it has where there were too many holes to name each one
    missing: u64,
    /// `lost`: nats-server has lost the events. `earlier`: they were missing when mer first looked. `limit`: a limit for each type
    /// has removed them. `earlier` and `limit` are reported, and stop no deliveries
    reason: &'static str,
    /// When it was noticed: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    noticed: String,
}

impl From<&Hole> for HoleView {
    fn from(hole: &Hole) -> Self {
        Self {
            from_sequence: hole.from_sequence,
            to_sequence: hole.to_sequence,
            missing: hole.missing,
            reason: match hole.reason {
                Reason::Lost => "lost",
                Reason::Earlier => "earlier",
                Reason::Limit => "limit",
            },
            noticed: hole.noticed.to_rfc3339(),
        }
    }
}
