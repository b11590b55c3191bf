//! Faults of today's build that are known: each by name, with its row of the issues on faults. A name goes when its row is mended.

use crate::fault::{Fault, Kind, Mark};

pub(crate) struct Tolerated {
    pub(crate) name: &'static str,
    /// Which row of which issue.
    pub(crate) row: &'static str,
    is_it: fn(&Fault) -> bool,
}

pub(crate) const ALL: &[Tolerated] = &[
    Tolerated {
        name: "back-before-registration",
        row: "21 A1: after 409 `Resume-After` from before a registration, what lies in between does not come",
        is_it: |fault| {
            matches!(fault.kind, Kind::Lost | Kind::Overtook)
                && (fault.has(Mark::BackBeforeRegistration) || fault.has(Mark::NamedInPast))
        },
    },
    Tolerated {
        name: "resume-beyond",
        row: "21 A1: 409 `Resume-After` beyond the log's end skips all that there is",
        is_it: |fault| {
            matches!(fault.kind, Kind::Lost | Kind::SilentGap | Kind::Overtook | Kind::WrongPrevious)
                && fault.has(Mark::SaidBeyond)
        },
    },
    Tolerated {
        name: "second-resume-forgotten",
        row: "22 F51: a second 409 `Resume-After` in a row is forgotten when something is asked of the subscription",
        is_it: |fault| {
            matches!(fault.kind, Kind::Lost | Kind::Overtook | Kind::WrongPrevious | Kind::Twice | Kind::EarlyLetter)
                && fault.has(Mark::SecondResume)
        },
    },
    Tolerated {
        name: "replay-cut-off",
        row: "22 F48: a redelivery is cut off by registering the same pair again",
        is_it: |fault| matches!(fault.kind, Kind::Lost | Kind::Overtook) && fault.has(Mark::ReplayThenRegistered),
    },
    Tolerated {
        name: "batch-previous",
        row: "22 B14: of a batch that is taken apart, what comes after one that was given up names that one",
        is_it: |fault| fault.kind == Kind::WrongPrevious && fault.has(Mark::BatchSplit),
    },
    Tolerated {
        name: "replay-of-earlier-words",
        row: "22 F50: a redelivery leaves out what words that no longer stand did not let through",
        is_it: |fault| matches!(fault.kind, Kind::Lost | Kind::Overtook) && fault.has(Mark::ReplayOfEarlierWords),
    },
    Tolerated {
        name: "words-then-back",
        row: "22 A8: after a change of words, 409 `Resume-After` from before it does not bring all",
        is_it: |fault| matches!(fault.kind, Kind::Lost | Kind::Overtook) && fault.has(Mark::WordsThenBack),
    },
    Tolerated {
        name: "pattern-added",
        row: "22 F46: adding a pattern delivers twice what another pattern has brought",
        is_it: |fault| fault.kind == Kind::Twice && fault.has(Mark::PatternAdded) && !fault.has(Mark::Disturbed),
    },
    Tolerated {
        name: "late-acknowledgement",
        row: "22 F47: after a kill, what was taken up to five seconds before comes again",
        is_it: |fault| matches!(fault.kind, Kind::Twice | Kind::WrongPrevious) && fault.has(Mark::TakenBeforeKill),
    },
    Tolerated {
        name: "owed-by-nobody",
        row: "22 F49: replaced words that had a `count` or required a key bring what nobody was promised",
        is_it: |fault| {
            matches!(fault.kind, Kind::BeforeStart | Kind::CountUnder | Kind::Lost | Kind::Overtook | Kind::WrongReplay)
                && fault.has(Mark::ReplacedCountOrKey)
        },
    },
    Tolerated {
        name: "registered-a-moment-ago",
        row: "ARCHITECTURE, known limits: a lane hears of a registration a moment after its 200, and others may overtake meanwhile",
        is_it: |fault| fault.kind == Kind::Overtook && fault.has(Mark::JustRegistered),
    },
    Tolerated {
        name: "same-words-again",
        row: "new, beside 22 A8: words are changed and then said again: what the words before the change did not ask for comes twice",
        is_it: |fault| fault.kind == Kind::Twice && fault.has(Mark::SameWordsAgain),
    },
];

/// The name of a fault, if it is known.
pub(crate) fn name(fault: &Fault) -> Option<&'static str> {
    ALL.iter().find(|tolerated| (tolerated.is_it)(fault)).map(|tolerated| tolerated.name)
}
