//! What a session has to be done.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::Event;
use domain::lane::Lane;
use domain::log_epoch::Mark;

use super::Leave;

/// One thing to be done.
pub(crate) enum Action<D> {
    /// Write the lane, if it is still as it was read. One at a time; then [`super::Input::Written`].
    Write(Box<Lane>),
    /// Acknowledge this message and all before it.
    Acknowledge(D),
    /// Send the events of these sequences as one request; then [`super::Input::Landed`].
    Send(Vec<u64>),
    /// Look for keys in earlier events of the transaction of the event; then [`super::Input::Found`].
    Look { event: Arc<Event>, keys: BTreeSet<String> },
    /// Look up where the log begins and ends; then [`super::Input::Bounds`].
    LookUpBounds,
    /// Look whether an event is where it was in the log; then [`super::Input::Compared`].
    Compare(Mark),
    /// Ask the source what it has given; then [`super::Input::Given`].
    AskSource,
    /// Follow the tail of the log, if it reaches back to what was read; then [`super::Input::Joined`] or `NotJoined`.
    JoinTail { read_to: u64 },
    /// Have the consumer show where the lane is.
    Show,
    /// Look whether the source has been read to its end; then [`super::Input::ReadToEnd`].
    LookForEnd,
    /// Write a dead letter; then [`super::Input::Buried`] or `NotBuried`.
    Bury(Box<Letter>),
    /// The session is over.
    End(Leave),
}

/// A dead letter to be written.
pub(crate) struct Letter {
    pub(crate) event: Arc<Event>,
    /// The name that it is written under, however often that is tried.
    pub(crate) name: String,
    /// Whether it may be there already.
    pub(crate) may_be_there: bool,
    pub(crate) attempts: u32,
    pub(crate) code: Option<u16>,
    pub(crate) error: String,
}
