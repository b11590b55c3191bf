//! What a run does, one after the other: made from a seed by `plan`, carried out by `world`.

use serde::Serialize;

use crate::history::{CallOf, Url};

/// What is said of one pattern, as far as it does not depend on what has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Said {
    pub(crate) transaction: Option<u64>,
    pub(crate) start: Option<Start>,
    /// `datetime_end`, so many milliseconds from now.
    pub(crate) end_in_ms: Option<i64>,
    pub(crate) count: Option<u64>,
    pub(crate) requires: bool,
    pub(crate) allow_gap: bool,
    /// The words that are in force are said again, where there are any.
    pub(crate) is_same: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Start {
    /// From the event that was so many before the last one.
    Back(usize),
    /// So many milliseconds from now.
    In(i64),
}

pub(crate) type Entry = (String, Said);

/// A call as it is planned: moments are those of the event that was so many before the last one; all dead letters that there are.
pub(crate) type Call = CallOf<Said, usize, ()>;

/// What a target answers to its next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Answer {
    Status(u16),
    /// 204, after so many milliseconds.
    Slow(u64),
    /// The connection ends without an answer.
    Closed,
    /// No answer comes until mer gives up, or the targets are healed.
    Hang,
    /// 409 with a position so many before what has come.
    ResumeBack(u64),
    /// 409 with a position so many behind what has come: 0 says that it is had.
    ResumeOn(u64),
    /// 409 with a position beyond the log's end.
    ResumeBeyond,
}

/// What is killed or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Trouble {
    /// `kill -9`, and it is started again after so many milliseconds.
    KillMer(u64),
    /// SIGSTOP for so many milliseconds.
    FreezeMer(u64),
    KillNats(u64),
    FreezeNats(u64),
    /// A second dispatcher begins.
    SecondBegins,
    /// It is killed.
    SecondKilled,
    /// It is stopped in good order.
    SecondEnds,
    FreezeSecond(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Post {
    pub(crate) kind: String,
    pub(crate) transaction: Option<u64>,
    pub(crate) has_key: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Operation {
    Post(Post),
    Batch(Vec<Post>),
    Call(Url, Call),
    /// Two calls at once on one URL.
    AtOnce(Url, Call, Call),
    /// A call while these are posted.
    Meanwhile(Url, Call, Vec<Post>),
    /// The next requests of a URL are answered so, so many times.
    Answer(Url, Answer, u32),
    Trouble(Trouble),
    /// Nothing, for so many milliseconds: so that what is under way gets on.
    Breathe(u64),
    /// All is waited for, and looked at.
    Rest,
}
