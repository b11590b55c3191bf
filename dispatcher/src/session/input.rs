//! What a session is told.

use std::sync::Arc;
use std::time::Duration;

use domain::log_holes::LogHoles;
use domain::required_data::Found;
use domain::{Event, Stamp};

use super::Leave;
use crate::push::verdict::PushOutcome;

/// What came.
pub(crate) enum Input<D> {
    /// The next message of the source.
    Read(Message<D>),
    /// The source gives no more.
    Unread(Unread),
    /// What was found of the keys that were looked for.
    Found { sequence: u64, found: Found },
    /// A request has come to its end.
    Landed(Landed),
    /// What was to be written is.
    Written,
    /// Where the log begins and ends, by a look-up that began after it was asked for.
    Bounds { first_sequence: u64, last_sequence: u64 },
    /// The log was seen to begin here: later than before.
    Cut { first_sequence: u64 },
    /// These are the holes that are known now.
    Holes(Arc<LogHoles>),
    /// The log was found to be another one.
    Forked,
    /// Whether the event that was to be compared is where it was.
    Compared { is_in: bool },
    /// Up to here the source has given all that there is; `None`: that is not known. And whether nothing is known to be behind it.
    Given { to: Option<u64>, is_at_end: bool },
    /// The source is the tail from now on.
    Joined,
    /// It is not: too much lies before it.
    NotJoined,
    /// All that was stored has been read; `None`: not all of it.
    ReadToEnd(Option<ReadTo>),
    /// The dead letter is written.
    Buried,
    /// It is not, or nobody could tell. A number from 0 to 1 for the wait.
    NotBuried { jitter: f64 },
    /// Something else is wanted.
    Leave(Leave),
}

/// A message of the log.
pub(crate) struct Message<D> {
    pub(crate) sequence: u64,
    /// `None` where the subject is not that of a legal type, or the message cannot be read.
    pub(crate) event: Option<Arc<Event>>,
    /// How many messages are known to be behind it.
    pub(crate) backlog: u64,
    /// What it is acknowledged with.
    pub(crate) token: D,
}

/// Up to where a source has given all that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadTo {
    /// The last sequence of it.
    pub(crate) sequence: u64,
    /// What lies behind that was, or will be, stored at this moment or later, by the clock by which events are stored.
    pub(crate) moment: Stamp,
}

/// Why a source gives no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The next message cannot be read. A source that is opened right before it passes over it.
    Unreadable,
    /// Something was lost on the way, or the reader of this lane has ended.
    Interrupted,
}

/// What came of a request.
pub(crate) struct Landed {
    /// The sequences of its events.
    pub(crate) load: Vec<u64>,
    /// Which attempt at them it was.
    pub(crate) attempt: u32,
    /// `None`: it was not made, because this dispatcher may not push any more.
    pub(crate) outcome: Option<PushOutcome>,
    pub(crate) at: Stamp,
    pub(crate) duration: Duration,
    /// A number from 0 to 1 for the wait after a failure.
    pub(crate) jitter: f64,
}
