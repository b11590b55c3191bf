//! A call that changes what one URL is to get.

use serde::{Deserialize, Serialize};

use crate::history::Delivery;

/// The call: as it is planned, or as it is made. `Said` is what is said of a pattern, `Time` a moment of the log, `Letters` which
/// dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallOf<Said, Time, Letters> {
    Register(Vec<(String, Said)>),
    Unregister(Vec<String>),
    Put(Vec<(String, Said)>, Delivery),
    PatchEvents(Vec<(String, Said)>),
    PatchDelivery(Delivery),
    Delete,
    Pause,
    Resume,
    /// From and to.
    Replay(Time, Option<Time>),
    Redrive(Letters),
}
