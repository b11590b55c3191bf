//! What is begun for a session beside its requests.

use broker::Unavailable;
use broker::event_log::LogBounds;
use domain::required_data::Found;

use crate::session::Letter;
use crate::source::tail::Follower;

/// What came of something that was begun.
pub(super) enum Chore {
    Written(Result<Option<u64>, Unavailable>),
    Found(u64, Result<Found, Unavailable>),
    Bounds(Result<LogBounds, Unavailable>),
    Compared(Result<bool, Unavailable>),
    Joined(Result<Option<Follower>, Unavailable>),
    Buried(Box<Letter>, Result<(), Unavailable>),
}
