//! What is missing in the middle of the log.

use domain::log_holes::{Hole, LogHoles};
use serde_json::Value;

use super::finding::Finding;
use crate::log::event_log::missing;

/// What it is told of.
const WHAT: &str = "holes";
/// How many holes are named.
const NAMED: usize = 5;

/// What the stream's state and the record of holes tell; nothing where nothing is missing. mer removes nothing there; an operator
/// may have.
pub(super) fn of_log(info: &Value, holes: Option<&LogHoles>) -> Option<Finding> {
    let of = |field: &str| info["state"][field].as_u64().unwrap_or(0);
    let (first, last, messages) = (of("first_seq"), of("last_seq"), of("messages"));
    let is_limited_by_type = info["config"]["max_msgs_per_subject"].as_i64().is_some_and(|limit| limit > 0);
    let missing = missing(first, last, messages);
    let (lost, reported) = holes.map(LogHoles::missing).unwrap_or_default();
    let named = |is_lost: bool| named(holes.map(LogHoles::all).unwrap_or_default(), is_lost);
    if lost > 0 {
        let found = format!("the log has lost {lost} event(s): the sequences {} hold none", named(true));
        let mend = "look at the disk and the log of nats-server; have senders send them again (docs/operating.md)";
        return Some(Finding::warn(WHAT, found, mend));
    }
    if is_limited_by_type || missing == 0 && reported == 0 {
        return None;
    }
    let found = if reported > 0 {
        format!("the sequences {} held no event when mer first looked", named(false))
    } else {
        format!("{missing} of the sequences {first} to {last} hold no event")
    };
    let mend = "nothing if an operator removed them; else have senders send them again";
    Some(Finding::note(WHAT, found, mend))
}

fn named(holes: &[Hole], is_lost: bool) -> String {
    let holes: Vec<&Hole> = holes.iter().filter(|hole| hole.is_lost() == is_lost).collect();
    let name = |hole: &&Hole| match (hole.from_sequence, hole.to_sequence) {
        (from, to) if from == to => from.to_string(),
        (from, to) => format!("{from} to {to}"),
    };
    let mut names: Vec<String> = holes.iter().take(NAMED).map(name).collect();
    if holes.len() > NAMED {
        names.push(format!("and those of {} more holes", holes.len() - NAMED));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use domain::Stamp;
    use domain::log_holes::{Missing, Observed};
    use serde_json::json;

    fn info(messages: u64, per_type: i64) -> Value {
        let state = json!({"first_seq": 11, "last_seq": 20, "messages": messages});
        json!({"config": {"max_msgs_per_subject": per_type}, "state": state})
    }

    fn holes(known: Option<&LogHoles>) -> LogHoles {
        let missing = Missing::Ranges(vec![(13, 15), (17, 17)]);
        let seen = Observed {
            first_sequence: 11,
            last_sequence: 20,
            missing,
            looked_at: Vec::new(),
            not_found: Vec::new(),
            is_limited: false,
        };
        LogHoles::after(known, &seen, None, Stamp::from_micros(0)).holes
    }

    #[test]
    fn what_is_missing_in_the_middle_of_the_log_is_told() {
        assert_eq!(of_log(&info(10, -1), None), None);
        assert_eq!(of_log(&info(7, 1), None), None, "a limit for each type leaves holes");
        let new = json!({"config": {}, "state": {"first_seq": 0, "last_seq": 0, "messages": 0}});
        assert_eq!(of_log(&new, None), None, "nothing was ever stored");
        let emptied = json!({"config": {}, "state": {"first_seq": 21, "last_seq": 20, "messages": 0}});
        assert_eq!(of_log(&emptied, None), None);
        let unrecorded = of_log(&info(7, -1), None).unwrap();
        assert!(unrecorded.level == Level::Note && unrecorded.found.starts_with("3 of the sequences 11 to 20"));
        let reported = of_log(&info(6, -1), Some(&holes(None))).unwrap();
        assert!(reported.level == Level::Note && reported.found.contains("13 to 15, 17"), "{reported:?}");
        let lost = of_log(&info(6, -1), Some(&holes(Some(&LogHoles::default())))).unwrap();
        assert!(
            lost.level == Level::Warn && lost.found.contains("lost 4 event(s): the sequences 13 to 15, 17"),
            "{lost:?}"
        );
    }
}
