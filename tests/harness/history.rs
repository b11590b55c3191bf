//! What happened, written down line by line as it happens, and the checker that reads it afterwards and knows nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A target was registered for a type, of which it is to get everything: what was posted before, too.
    Registered {
        /// The target's path.
        target: String,
        /// The type.
        event_type: String,
    },
    /// An event was posted, and acknowledged.
    Posted {
        /// Its type.
        event_type: String,
        /// Its place in the log.
        sequence: u64,
    },
    /// An event was posted, and it is not known whether it was stored.
    Unknown,
    /// A dispatcher, or what it works with, was killed or frozen: what was under way may come again.
    Disturbed {
        /// How many events of one target that is, at most.
        under_way: usize,
    },
    /// An event stands in the log when all is over.
    Stands {
        /// Its type.
        event_type: String,
        /// Its place in the log.
        sequence: u64,
    },
    /// An event came to a target, which took it.
    Arrived {
        /// The target's path.
        target: String,
        /// The event's place in the log.
        sequence: u64,
        /// The one that came to the target before it, as it was told; 0 for none.
        previous: u64,
    },
}

/// Where lines are added, and nothing is changed.
pub struct History {
    folder: TempDir,
    file: Mutex<File>,
}

impl History {
    /// An empty one.
    pub fn start() -> Arc<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::options().create(true).append(true).open(folder.path().join("history")).expect("a file");
        Arc::new(Self { folder, file: Mutex::new(file) })
    }

    /// Adds a line.
    pub fn add(&self, line: &Line) {
        let mut text = serde_json::to_string(line).expect("JSON");
        text.push('\n');
        self.file.lock().unwrap().write_all(text.as_bytes()).expect("writing the history");
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("history")
    }
}

/// What is wrong with a history.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An event that was acknowledged did not come.
    Lost {
        /// Where it did not come.
        target: String,
        /// Which.
        sequence: u64,
    },
    /// An event came for the first time after a later one.
    OutOfOrder {
        /// Where.
        target: String,
        /// Which.
        sequence: u64,
        /// After which.
        after: u64,
    },
    /// An event came for the first time, and the target was told that another one came before it than the one that did:
    /// it would have to think that it has missed something.
    Gap {
        /// Where.
        target: String,
        /// What came.
        sequence: u64,
        /// After which.
        after: u64,
        /// After which it came as the target was told.
        previous: u64,
    },
    /// An event that was acknowledged is not in the log.
    NotInLog {
        /// Which.
        sequence: u64,
    },
    /// Something came that nobody had posted for it.
    Phantom {
        /// Where.
        target: String,
        /// What.
        sequence: u64,
    },
    /// More came again than was under way: several dispatchers were at work on the same events.
    Repeated {
        /// Where.
        target: String,
        /// How many.
        times: usize,
    },
}

/// What the checker has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many events were acknowledged.
    pub posted: usize,
    /// How many came for the first time, all targets together.
    pub arrived: usize,
    /// How many came again.
    pub duplicates: usize,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// A history, sorted by what is compared.
#[derive(Default)]
struct Sorted {
    /// Types, by target.
    asked: BTreeMap<String, String>,
    /// Types of what was acknowledged, by sequence.
    posted: BTreeMap<u64, String>,
    /// Types of what stands in the log, by sequence; nothing where nobody has looked.
    standing: BTreeMap<u64, String>,
    /// Sequences and those said to come before them, by target.
    arrivals: BTreeMap<String, Vec<(u64, u64)>>,
    unknown: usize,
    /// How many events of one target may come again.
    under_way: usize,
}

impl Sorted {
    fn read(history: &Path) -> Self {
        let mut sorted = Self::default();
        for line in BufReader::new(File::open(history).expect("the history")).lines() {
            match serde_json::from_str(&line.expect("a line")).expect("a line of a history") {
                Line::Registered { target, event_type } => drop(sorted.asked.insert(target, event_type)),
                Line::Posted { event_type, sequence } => drop(sorted.posted.insert(sequence, event_type)),
                Line::Stands { event_type, sequence } => drop(sorted.standing.insert(sequence, event_type)),
                Line::Unknown => sorted.unknown += 1,
                Line::Disturbed { under_way } => sorted.under_way += under_way,
                Line::Arrived { target, sequence, previous } => {
                    sorted.arrivals.entry(target).or_default().push((sequence, previous));
                }
            }
        }
        sorted
    }

    fn type_of(&self, sequence: u64) -> Option<&String> {
        self.posted.get(&sequence).or_else(|| self.standing.get(&sequence))
    }

    /// What is to come to whoever is registered for a type.
    fn expected(&self, event_type: &str) -> BTreeSet<u64> {
        let all = self.posted.iter().chain(&self.standing);
        all.filter(|(_, of)| *of == event_type).map(|(sequence, _)| *sequence).collect()
    }
}

/// Reads a history from its first line to its last.
pub fn check(history: &Path) -> Report {
    let mut sorted = Sorted::read(history);
    let mut arrivals = std::mem::take(&mut sorted.arrivals);
    let mut report = Report { posted: sorted.posted.len(), ..Report::default() };
    let is_in_log = |sequence: &u64| sorted.standing.is_empty() || sorted.standing.contains_key(sequence);
    for sequence in sorted.posted.keys().filter(|sequence| !is_in_log(sequence)) {
        report.faults.push(Fault::NotInLog { sequence: *sequence });
    }
    let mut unposted = BTreeSet::new();
    for (target, event_type) in &sorted.asked {
        let (mut seen, mut times) = (BTreeSet::new(), 0);
        for (sequence, previous) in arrivals.remove(target).unwrap_or_default() {
            let latest = seen.last().copied().unwrap_or(0);
            if !seen.insert(sequence) {
                times += 1;
                continue;
            }
            report.arrived += 1;
            let target = target.clone();
            if latest > sequence {
                report.faults.push(Fault::OutOfOrder { target: target.clone(), sequence, after: latest });
            } else if latest != previous {
                report.faults.push(Fault::Gap { target: target.clone(), sequence, after: latest, previous });
            }
            let is_of_another = sorted.type_of(sequence).is_some_and(|of| of != event_type);
            let is_acknowledged = sorted.posted.contains_key(&sequence);
            let is_nobodys = !is_acknowledged && unposted.insert(sequence) && unposted.len() > sorted.unknown;
            if is_of_another || is_nobodys || !is_in_log(&sequence) {
                report.faults.push(Fault::Phantom { target, sequence });
            }
        }
        for sequence in sorted.expected(event_type).difference(&seen) {
            report.faults.push(Fault::Lost { target: target.clone(), sequence: *sequence });
        }
        report.duplicates += times;
        if times > sorted.under_way {
            report.faults.push(Fault::Repeated { target: target.clone(), times });
        }
    }
    for (target, sequences) in arrivals {
        let phantom = |(sequence, _)| Fault::Phantom { target: target.clone(), sequence };
        report.faults.extend(sequences.into_iter().map(phantom));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(target: &str, sequence: u64, previous: u64) -> Line {
        Line::Arrived { target: target.to_owned(), sequence, previous }
    }

    fn stands(event_type: &str, sequence: u64) -> Line {
        Line::Stands { event_type: event_type.to_owned(), sequence }
    }

    fn checked(change: impl Fn(&mut Vec<Line>)) -> Report {
        let posted = |event_type: &str, sequence| Line::Posted { event_type: event_type.to_owned(), sequence };
        let registered = |target: &str, event_type: &str| Line::Registered {
            target: target.to_owned(),
            event_type: event_type.to_owned(),
        };
        let mut lines = vec![registered("/1", "a"), registered("/2", "b")];
        lines.extend([posted("a", 1), posted("b", 2), posted("a", 3), posted("a", 4)]);
        lines.extend([arrived("/1", 1, 0), arrived("/2", 2, 0), arrived("/1", 3, 1), arrived("/1", 4, 3)]);
        change(&mut lines);
        let history = History::start();
        lines.iter().for_each(|line| history.add(line));
        check(&history.path())
    }

    #[test]
    fn a_good_history_has_no_fault_and_duplicates_are_counted() {
        assert_eq!(checked(|_| {}), Report { posted: 4, arrived: 4, duplicates: 0, faults: vec![] });
        let twice = |lines: &mut Vec<Line>| lines.extend([Line::Disturbed { under_way: 1 }, lines[6].clone()]);
        assert_eq!(checked(twice), Report { posted: 4, arrived: 4, duplicates: 1, faults: vec![] });
        let unknown = |lines: &mut Vec<Line>| {
            lines.insert(0, Line::Unknown);
            lines.push(arrived("/1", 5, 4));
        };
        assert_eq!(checked(unknown).faults, []);
        let looked_up = |lines: &mut Vec<Line>| {
            unknown(lines);
            lines.extend([stands("a", 1), stands("b", 2), stands("a", 3), stands("a", 4), stands("a", 5)]);
        };
        assert_eq!(checked(looked_up).faults, []);
    }

    #[test]
    fn a_dropped_a_swapped_and_a_phantom_event_are_found() {
        let target = || "/1".to_owned();
        let dropped = |lines: &mut Vec<Line>| drop(lines.remove(8));
        let gap = Fault::Gap { target: target(), sequence: 4, after: 1, previous: 3 };
        assert_eq!(checked(dropped).faults, [gap.clone(), Fault::Lost { target: target(), sequence: 3 }]);
        let swapped = |lines: &mut Vec<Line>| lines.swap(8, 9);
        assert_eq!(checked(swapped).faults, [gap, Fault::OutOfOrder { target: target(), sequence: 3, after: 4 }]);
        let of_another = |lines: &mut Vec<Line>| lines.push(arrived("/1", 2, 4));
        assert!(checked(of_another).faults.contains(&Fault::Phantom { target: target(), sequence: 2 }));
        let unposted = |lines: &mut Vec<Line>| lines.push(arrived("/1", 9, 4));
        assert_eq!(checked(unposted).faults, [Fault::Phantom { target: target(), sequence: 9 }]);
        let elsewhere = |lines: &mut Vec<Line>| lines.push(arrived("/3", 1, 0));
        assert_eq!(checked(elsewhere).faults, [Fault::Phantom { target: "/3".into(), sequence: 1 }]);
    }

    #[test]
    fn what_the_log_lacks_and_what_it_has_and_did_not_come_is_found() {
        let log = |lines: &mut Vec<Line>| lines.extend([stands("a", 1), stands("b", 2), stands("a", 3)]);
        assert_eq!(
            checked(log).faults,
            [Fault::NotInLog { sequence: 4 }, Fault::Phantom { target: "/1".into(), sequence: 4 }]
        );
        let more = |lines: &mut Vec<Line>| {
            log(lines);
            lines.extend([Line::Unknown, stands("a", 4), stands("b", 5)]);
        };
        assert_eq!(checked(more).faults, [Fault::Lost { target: "/2".into(), sequence: 5 }]);
    }

    #[test]
    fn more_that_comes_again_than_was_under_way_is_found() {
        let repeated = |times| [Fault::Repeated { target: "/1".into(), times }];
        let again = |lines: &mut Vec<Line>| lines.push(lines[6].clone());
        assert_eq!(checked(again).faults, repeated(1), "nothing was disturbed");
        let disturbed = |times| {
            move |lines: &mut Vec<Line>| {
                lines.insert(0, Line::Disturbed { under_way: 4 });
                lines.extend(vec![lines[7].clone(); times]);
            }
        };
        assert_eq!(checked(disturbed(4)).faults, []);
        assert_eq!(checked(disturbed(5)).faults, repeated(5));
    }
}
