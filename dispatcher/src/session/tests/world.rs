//! A lane's world without I/O: a log that a limit cuts, a bucket whose writes come late, acknowledgements that a crash rolls
//! back, and a target that proves for itself what it missed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use domain::lane::{Lane, State};
use domain::log_epoch::{LogEpoch, LogRecord, Mark};
use domain::log_holes::LogHoles;
use domain::{Event, Stamp, Subscription, TargetUrl, TypePattern};

use super::super::*;
use super::dice::Dice;

/// What a line of registrations of one type is promised.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub(super) from: u64,
    pub(super) count: Option<u64>,
    /// What was delivered of it since it was made.
    pub(super) had: BTreeSet<u64>,
}

/// A target that checks that it missed nothing, as the contract says that it can.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) applied: BTreeSet<u64>,
    /// The event that it took last, or where it was put back to.
    pub(super) last: u64,
    /// It was put back, and deliveries have not followed yet.
    pub(super) was_put_back: bool,
    /// What it had taken last before an event whose answer was lost: the lane may know of no more.
    pub(super) before_lost: Option<u64>,
    /// The lane may know of less than it took: it goes on from what was written.
    pub(super) after_crash: bool,
    /// How many events came that it had.
    pub(super) duplicates: u64,
}

/// A write that is on its way to the bucket.
pub(super) struct Write {
    pub(super) lane: Lane,
    pub(super) revision: u64,
    pub(super) is_of_session: bool,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Now,
    pub(super) spec: Subscription,
    pub(super) promises: BTreeMap<&'static str, Promise>,
    /// The log: the type of each event, and the log that it was posted to; the first one has sequence 1.
    pub(super) log: Vec<(&'static str, u64)>,
    /// How often the log has become another one.
    pub(super) logs: u64,
    /// What was declared of it, and up to where it is shared since, where nobody has declared it yet.
    pub(super) record: LogRecord,
    pub(super) undeclared: Option<u64>,
    /// Where it begins since a limit has cut it.
    pub(super) first: u64,
    /// What it has lost since, and what is known of that.
    pub(super) lost: BTreeSet<u64>,
    pub(super) holes: Arc<LogHoles>,
    /// What is in the bucket, and its revision.
    pub(super) bucket: Option<Lane>,
    pub(super) revision: u64,
    pub(super) write: Option<Write>,
    /// What was acknowledged, by epoch: now, and as a crash may leave it.
    pub(super) floors: BTreeMap<String, (u64, u64)>,
    pub(super) session: Option<Session<u64>>,
    /// Under which epoch it acknowledges.
    pub(super) epoch: String,
    /// A lane between sessions, as it is in memory, and the revision that is known of the bucket.
    pub(super) memory: Option<Lane>,
    pub(super) known_revision: u64,
    pub(super) reads_from: u64,
    /// What a session has asked for: events, which log each is of, and what came before.
    pub(super) requests: Vec<(Vec<u64>, Vec<u64>, u64)>,
    /// In concurrent mode, the event of each transaction that was sent and is not taken yet: none overtakes it.
    pub(super) sent: BTreeMap<u64, u64>,
    pub(super) looks: VecDeque<u64>,
    pub(super) bounds_wanted: bool,
    pub(super) joins: bool,
    pub(super) looks_for_end: bool,
    pub(super) letter: Option<(u64, u64)>,
    pub(super) compares: Option<Mark>,
    pub(super) target_state: TargetState,
    pub(super) target: Target,
    pub(super) buried: BTreeSet<u64>,
    /// What was said to be missing.
    pub(super) gaps: Vec<(u64, u64)>,
    pub(super) crashes: u64,
    pub(super) names: u64,
    /// What is wrong.
    pub(super) fault: Option<String>,
    pub(super) is_calm: bool,
    pub(super) is_traced: bool,
}

pub(super) const TYPES: [&str; 3] = ["a", "b", "c"];

pub(super) fn pattern(of: &str) -> TypePattern {
    TypePattern::parse(of).unwrap()
}

/// How much later the events of another log are stored than those of the one before, in microseconds.
const ANOTHER_LOG_MICROS: i64 = 1_000_000_000;

/// The number of the transaction of an event.
pub(super) fn transaction_of(sequence: u64) -> u64 {
    sequence % 3
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::of(seed),
            now: Now { at: Instant::now(), utc: Stamp::from_micros(1_000_000_000_000) },
            spec: Subscription::new(TargetUrl::parse("http://target/").unwrap()),
            promises: BTreeMap::new(),
            log: Vec::new(),
            logs: 0,
            record: LogRecord::begin(LogEpoch::of(0), Stamp::from_micros(0)),
            undeclared: None,
            first: 1,
            lost: BTreeSet::new(),
            holes: Arc::default(),
            bucket: None,
            revision: 0,
            write: None,
            floors: BTreeMap::new(),
            session: None,
            epoch: String::new(),
            memory: None,
            known_revision: 0,
            reads_from: 0,
            requests: Vec::new(),
            sent: BTreeMap::new(),
            looks: VecDeque::new(),
            bounds_wanted: false,
            joins: false,
            looks_for_end: false,
            letter: None,
            compares: None,
            target_state: TargetState::default(),
            target: Target::default(),
            buried: BTreeSet::new(),
            gaps: Vec::new(),
            crashes: 0,
            names: 0,
            fault: None,
            is_calm: false,
            is_traced: std::env::var_os("SESSION_TRACE").is_some(),
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn type_of(&self, sequence: u64) -> &'static str {
        self.log[usize::try_from(sequence).unwrap() - 1].0
    }

    /// When the event at a place was stored, or would be; its own time too.
    pub(super) fn stored_at(&self, sequence: u64) -> Stamp {
        let at = usize::try_from(sequence).unwrap();
        let log = self.log.get(at.wrapping_sub(1)).map_or(self.logs, |(_, log)| *log);
        let micros = i64::try_from(sequence).unwrap() * 1_000_000;
        Stamp::from_micros(micros + i64::try_from(log).unwrap() * ANOTHER_LOG_MICROS)
    }

    /// Whether an event of a log is in the log as it is.
    pub(super) fn is_in(&self, sequence: u64, of_log: u64) -> bool {
        let at = usize::try_from(sequence).unwrap();
        at > 0 && self.log.get(at - 1).is_some_and(|(_, log)| *log == of_log)
    }

    /// Which log an event is of, by its id.
    pub(super) fn log_of(event: &Event) -> u64 {
        event.id().rsplit('-').next().unwrap().parse().unwrap()
    }

    pub(super) fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    /// Says what happens, where one run is looked at (`SESSION_TRACE=1`).
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{}", what());
        }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    pub(super) fn event(&self, sequence: u64) -> Arc<Event> {
        let at = self.stored_at(sequence);
        let transaction = ["t0", "t1", "t2"][usize::try_from(transaction_of(sequence)).unwrap()];
        let subject = format!("events.{}", self.type_of(sequence));
        let id = format!("{sequence}-{}", self.log[usize::try_from(sequence).unwrap() - 1].1);
        let headers = [("ce-id", id.as_str()), ("ce-transactionid", transaction)];
        Arc::new(Event::from_message("EVENTS", &subject, sequence, at, headers, Bytes::from("{}")).unwrap())
    }

    pub(super) fn tell(&mut self, input: Input<u64>) {
        let now = self.now;
        self.trace(|| match &input {
            Input::Read(message) => format!("read {} ({} behind)", message.sequence, message.backlog),
            Input::Landed(landed) => format!("landed {:?}: {:?}", landed.load, landed.outcome),
            Input::Bounds { first_sequence, last_sequence } => format!("bounds {first_sequence} to {last_sequence}"),
            Input::Given { to, .. } => format!("given to {to:?}"),
            Input::Leave(leave) => format!("leave: {leave:?}"),
            Input::Written => "written".to_owned(),
            Input::Joined => "joined".to_owned(),
            Input::Cut { first_sequence } => format!("cut to {first_sequence}"),
            Input::Unread(why) => format!("unread: {why:?}"),
            Input::Found { sequence, .. } => format!("found for {sequence}"),
            Input::Forked => "forked".to_owned(),
            Input::Holes(holes) => format!("holes: {:?}", holes.all()),
            Input::Compared { is_in } => format!("compared: {is_in}"),
            Input::Buried | Input::NotBuried { .. } | Input::NotJoined | Input::ReadToEnd(_) => "other".to_owned(),
        });
        if let Some(session) = &mut self.session {
            session.handle(input, now);
        }
    }

    pub(super) fn pass_time(&mut self, millis: u64) {
        self.now.at += Duration::from_millis(millis);
        self.now.utc = self.now.utc.plus_micros(i64::try_from(millis).unwrap() * 1_000);
        let now = self.now;
        if let Some(session) = &mut self.session {
            session.handle_timeout(now);
        }
    }

    pub(super) fn wait_for_deadline(&mut self) {
        let at = self.session.as_ref().and_then(Session::deadline);
        let millis = at.map_or(1, |at| at.saturating_duration_since(self.now.at).as_millis() + 1);
        self.pass_time(u64::try_from(millis).unwrap().min(700_000));
    }

    /// Everything that was not carried out is gone, and acknowledgements of the last moment with it.
    pub(super) fn crash(&mut self) {
        self.crashes += 1;
        self.trace(|| "crash".to_owned());
        self.target.after_crash = true;
        self.forget_session();
        self.memory = None;
        self.target_state = TargetState::default();
        if self.dice.one_in(2) {
            for (floor, kept) in self.floors.values_mut() {
                *floor = *kept;
            }
        }
        // A write that was on its way may still come, at any time.
        if self.dice.one_in(2) {
            self.write = None;
        } else if let Some(write) = &mut self.write {
            write.is_of_session = false;
        }
    }

    pub(super) fn forget_session(&mut self) {
        self.session = None;
        self.requests.clear();
        self.sent.clear();
        self.looks.clear();
        (self.bounds_wanted, self.joins, self.looks_for_end, self.letter) = (false, false, false, None);
        self.compares = None;
    }

    pub(super) fn passes(lane: &Lane, of: &str) -> bool {
        lane.filters.iter().any(|filter| filter.as_str() == of)
    }

    pub(super) fn backlog(&self, lane: &Lane, from: u64) -> u64 {
        (from + 1..=self.end()).filter(|s| self.holds(*s) && Self::passes(lane, self.type_of(*s))).count() as u64
    }

    /// Whether a lane waits for somebody to resume it, or is not there.
    pub(super) fn is_stopped(&self) -> bool {
        self.session.is_none()
            && self.memory.as_ref().is_some_and(|lane| {
                matches!(lane.state, State::Paused(_) | State::Gap(_) | State::Stopped(_) | State::Forked(_))
            })
    }

    /// Whether a lane holds an event until somebody resumes it.
    pub(super) fn is_held_for_good(&self) -> bool {
        let failure = self.session.as_ref().and_then(|session| session.lane().failure());
        failure.is_some_and(|failure| failure.next_attempt.is_none() && failure.letter.is_none())
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_at_rest(&self) -> bool {
        match &self.session {
            Some(session) => {
                session.window().is_empty()
                    && self.requests.is_empty()
                    && self.write.is_none()
                    && self.backlog(session.lane(), self.reads_from) == 0
            }
            None => self.memory.as_ref().is_some_and(|lane| lane.state == State::Completed),
        }
    }

    pub(super) fn show(&self) -> String {
        let lane = self.session.as_ref().map(Session::lane).or(self.memory.as_ref());
        format!("log {:?} from {}, target {:?}, lane {lane:?}", self.log, self.first, self.target)
    }
}
