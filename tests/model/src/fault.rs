//! What a checker finds wrong.

use std::collections::BTreeSet;
use std::fmt;

use crate::history::Url;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An acknowledged event is not in the log, and no limit has removed it.
    NotInLog,
    /// The log has an event twice under one number, or other data than was acknowledged.
    LogDiffers,
    /// What came is not in the log.
    Phantom,
    /// What came has another type, transaction, time or data than the event of its sequence.
    Altered,
    /// No words in force ask for it.
    NotWanted,
    /// Words in force ask for such events, but they begin behind it.
    BeforeStart,
    /// The key that all words which ask for it require is not there.
    LacksKey,
    /// It came though deliveries were paused.
    WhilePaused,
    /// It came though the target had said that it is gone.
    AfterGone,
    /// An event that was to come before it has not come.
    Overtook,
    /// It was taken, and came again, and nothing permits that.
    Twice,
    /// It says that another event came before it than the one that did.
    WrongPrevious,
    /// Two requests were under way at a time.
    AtOnce,
    /// A batch came where none was asked for, or one that is too large.
    WrongBatch,
    /// More requests began than the rate allows.
    TooFast,
    /// It says that it is from before the registration, and is not; or the other way round.
    WrongReplay,
    /// It was to come, and did not.
    Lost,
    /// A limit removed it before it came, and no gap was told of.
    SilentGap,
    /// More were delivered than `count` says.
    CountOver,
    /// Fewer were delivered than `count` says, though there were more.
    CountUnder,
    /// A dead letter of an event that was tried less often than was asked for.
    EarlyLetter,
    WrongState,
    WrongLag,
    WrongPhase,
    WrongPosition,
    WrongDelivered,
}

/// What was so when it happened: by this a known fault is told from a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// The target had named a position before the registration's beginning.
    BackBeforeRegistration,
    /// The target had named a position while it was sent what lies behind it in the log: in a redelivery, say.
    NamedInPast,
    /// Words were changed, and then said again.
    SameWordsAgain,
    /// It was posted a moment after the registration that brings it.
    JustRegistered,
    /// A requested redelivery was to bring it, and the pair was registered again in the meantime.
    ReplayThenRegistered,
    /// A requested redelivery was to bring it, and earlier words did not ask for it.
    ReplayOfEarlierWords,
    /// Several patterns of the URL match it, and one of them was registered after it was stored or shortly before.
    PatternAdded,
    /// It was taken within six seconds before something was killed.
    TakenBeforeKill,
    /// The words had been replaced, and the target then named a position further back.
    WordsThenBack,
    /// The words that were replaced had a `count` or required a key.
    ReplacedCountOrKey,
    /// The words have been replaced more than once.
    ReplacedTwice,
    /// Two answers with `Resume-After` came in a row, and then a call.
    SecondResume,
    /// The target had named a position beyond the log's end, and has taken nothing since, or not this one.
    SaidBeyond,
    /// The mode is or was `concurrent`, and the lane has moved back.
    ConcurrentBack,
    /// The event before it in a batch was given up, or the target said within a batch where it is.
    BatchSplit,
    /// Something had been killed or stopped.
    Disturbed,
    /// A limit removes events in this run.
    Limited,
    /// Two calls were made at once.
    CallsAtOnce,
    /// The words have been replaced.
    Replaced,
    /// The lane has moved back: by a registration, a redelivery or a target's word.
    MovedBack,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) url: Url,
    /// The event; 0 for what is about none.
    pub(crate) sequence: u64,
    /// The line of the history where it is seen.
    pub(crate) line: usize,
    pub(crate) marks: BTreeSet<Mark>,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, url, sequence, line, marks, detail } = self;
        write!(f, "{kind:?} at /u{url}, event {sequence}, line {line}: {detail} {marks:?}")
    }
}
