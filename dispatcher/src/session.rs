//! One lane at work, as a state machine without I/O: inputs in, actions out, one deadline.
//!
//! A session begins with a lane as it is written, reads its source from the lane's position on, and ends when something has to
//! be set up anew. [`Session::handle`] takes an input, [`Session::next_action`] gives what is to be done about it, and
//! [`Session::deadline`] says when to call [`Session::handle_timeout`]. The worker carries actions out. An action that is never
//! carried out is a crash: the next session begins with what was written, and nothing is lost.
//!
//! - `input`, `action`: what comes in, and what is to be done. `timers`: what it waits for.
//! - `window`: what was read and is not settled, and which of it may be sent.
//! - `reading`: a message comes in, and is decided about. `sending`: requests, and what came of them. `settling`: what the
//!   target has had is taken into the lane.
//! - `ledger`: what is written and acknowledged. An acknowledgement comes out only behind the confirmed write that it
//!   depends on.
//! - `refusal`: what a target did not take.
//! - `doubt`: whether something was cut from the log unseen. `holes`: whether the log has lost something that the lane comes to. `elsewhere`: a target that says itself where it is. `burial`: dead
//!   letters. `target_state`: what is remembered of a target between sessions. `ending`: leaving in good order.
//!
//! Nothing here knows NATS, HTTP, tokio or a clock: time is a parameter.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::lane::{Epoch, Lane};
use domain::log_holes::LogHoles;
use domain::{Stamp, Subscription, SubscriptionId};

use crate::push::backoff::Backoff;

pub(crate) mod action;
mod burial;
mod doubt;
mod elsewhere;
mod ending;
mod holes;
pub(crate) mod input;
mod leave;
mod ledger;
mod reading;
mod refusal;
mod sending;
mod settling;
pub(crate) mod target_state;
#[cfg(test)]
mod tests;
mod timers;
pub(crate) mod window;

pub(crate) use action::{Action, Letter};
pub(crate) use input::{Input, Landed, Message, ReadTo, Unread};
pub(crate) use leave::Leave;
pub(crate) use sending::attempt;
pub(crate) use target_state::TargetState;

use burial::Burial;
use doubt::Doubt;
use elsewhere::Elsewhere;
use holes::AtHole;
use ledger::Ledger;
use reading::Incoming;
use timers::{Timer, Timers};
use window::Window;

/// How often a lane to which nothing comes writes that it has missed nothing.
pub(crate) const NOTE_INTERVAL: Duration = Duration::from_secs(600);
/// How often a lane that reads its consumer looks whether it has caught up with the tail.
const JOIN_INTERVAL: Duration = Duration::from_secs(5);
/// How often one that follows the tail and is among the past looks whether that has caught up with the log.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// For how long the consumer of a lane that follows the tail may show where the lane was.
const SHOW_INTERVAL: Duration = Duration::from_secs(15);
/// How often a lane that does not follow the tail compares what it has had with the log. Of the tail, the log watch does.
const COMPARE_INTERVAL: Duration = Duration::from_secs(30);
/// How long to wait before looking again whether a source has been read to its end.
const END_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A moment, by the process's clock and by the calendar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) at: Instant,
    pub(crate) utc: Stamp,
}

/// What a lane reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Its own consumer, which is acknowledged to.
    Consumer,
    /// The past, together with others that want the same of it.
    Past,
    /// The end of the log. It gives everything in time, or says that it does not.
    Tail,
}

/// What a session begins with.
pub(crate) struct Begin {
    /// Whose it is: for the log.
    pub(crate) id: SubscriptionId,
    pub(crate) spec: Arc<Subscription>,
    /// The lane, as it is written.
    pub(crate) lane: Lane,
    pub(crate) reads: Reads,
    /// The holes that are known.
    pub(crate) holes: Arc<LogHoles>,
    /// How many messages lie before it.
    pub(crate) backlog: u64,
    pub(crate) target: TargetState,
    pub(crate) backoff: Backoff,
    /// How long it may be before it is first noted that nothing was missed: spread over lanes.
    pub(crate) first_note: Duration,
}

/// One lane at work. `D` is what a message is acknowledged with.
pub(crate) struct Session<D> {
    id: SubscriptionId,
    spec: Arc<Subscription>,
    /// All that is settled is in there.
    lane: Lane,
    /// The lane as it will be when all that is in the window is settled, where that may be more than one event.
    ahead: Option<Lane>,
    window: Window<D>,
    reads: Reads,
    holes: Arc<LogHoles>,
    /// It waits at a hole, as soon as all is settled that was read.
    at_hole: Option<AtHole>,
    /// The last sequence of the hole that it has told of last.
    told_of_hole: u64,
    incoming: Incoming<D>,
    ledger: Ledger<D>,
    doubt: Doubt,
    elsewhere: Elsewhere,
    burial: Burial,
    target: TargetState,
    leaving: Option<Leave>,
    has_ended: bool,
    /// A look whether everything was read is under way, and nothing was read since it began.
    looks_for_end: bool,
    is_joining: bool,
    /// What the source says next is to be written.
    is_noting: bool,
    /// What the lane has had up to here was compared with the log.
    compared_to: u64,
    /// Since when it has been waiting for the next message.
    waiting_since: Instant,
    /// How many messages are settled.
    settled: u64,
    /// When it was last written that an event is held.
    held_written_at: Option<Instant>,
    backoff: Backoff,
    timers: Timers,
    actions: VecDeque<Action<D>>,
}

impl<D> Session<D> {
    pub(crate) fn new(begin: Begin, now: Now) -> Self {
        let Begin { id, spec, lane, reads, holes, backlog, target, backoff, first_note } = begin;
        let mut window = Window::new(&spec.delivery);
        window.is_behind(backlog);
        if let Some(most) = target.takes_at_most(now.at) {
            window.limit_bytes(most);
        }
        let mut session = Self {
            id,
            ledger: Ledger::of(&lane, now.at),
            spec,
            lane,
            ahead: None,
            window,
            reads,
            holes,
            at_hole: None,
            told_of_hole: 0,
            incoming: Incoming::Nothing,
            doubt: Doubt::default(),
            elsewhere: Elsewhere::No,
            burial: Burial::No,
            target,
            leaving: None,
            has_ended: false,
            looks_for_end: false,
            is_joining: false,
            is_noting: false,
            compared_to: 0,
            waiting_since: now.at,
            settled: 0,
            held_written_at: None,
            backoff,
            timers: Timers::default(),
            actions: VecDeque::new(),
        };
        let (lane, spec, holes) = (&session.lane, &session.spec, &session.holes);
        let is_whole = lane.comes_to(spec, holes, lane.accounted_to(), u64::MAX).is_none();
        if backlog == 0 && is_whole && session.lane.read_to_the_end(&session.spec) {
            session.changed();
            session.timers.set(Timer::Checkpoint, now.at);
        }
        let over = session.lane.next_over(&session.spec);
        session.timers.put(Timer::EndCheck, over.map(|over| now.instant_of(over)));
        session.timers.set(Timer::Note, now.at + first_note);
        session.timers.set(Timer::Compare, now.at + COMPARE_INTERVAL);
        session.look_again(now);
        session.show_by(now.at);
        session
    }

    /// Takes in what came.
    pub(crate) fn handle(&mut self, input: Input<D>, now: Now) {
        match input {
            Input::Read(message) => self.read(message, now),
            Input::Unread(why) => self.is_unread(why),
            Input::Found { sequence, found } => self.found(sequence, found, now),
            Input::Landed(landed) => self.landed(landed, now),
            Input::Written => self.written(),
            Input::Bounds { first_sequence, last_sequence } => {
                self.is_looked_up(first_sequence, last_sequence, now);
            }
            Input::Cut { first_sequence } => self.is_cut(first_sequence),
            Input::Holes(holes) => self.are_holes(holes),
            // What the lane has had is compared with the log where it is set up anew.
            Input::Forked | Input::Compared { is_in: false } => self.leave(Leave::SetUp),
            Input::Compared { is_in: true } => {}
            Input::Given { to, is_at_end } => self.is_given(to, is_at_end),
            Input::Joined => self.has_joined(now),
            Input::NotJoined => self.is_joining = false,
            Input::ReadToEnd(to) => self.is_read_to_end(to),
            Input::Buried => self.is_buried(now),
            Input::NotBuried { jitter } => self.is_not_buried(jitter, now),
            Input::Leave(leave) => self.leave(leave),
        }
        self.go_on(now);
    }

    /// Does what it is time for.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.expired(now.at) {
            self.timers.stop(timer);
            match timer {
                Timer::Note => {
                    self.is_noting = true;
                    self.actions.push_back(Action::AskSource);
                    self.timers.set(Timer::Note, now.at + NOTE_INTERVAL);
                }
                Timer::Compare => self.compare(now),
                Timer::Checkpoint => self.checkpoint(),
                Timer::Acknowledge => self.acknowledge_now(),
                Timer::Look => self.look(now),
                Timer::Show => {
                    self.checkpoint();
                    if self.reads != Reads::Consumer {
                        self.actions.push_back(Action::Show);
                    }
                }
                Timer::EndCheck => self.check_end(now),
                Timer::Burial => self.bury_again(),
                // Looked at below.
                Timer::Turn | Timer::Window => {}
            }
        }
        self.go_on(now);
    }

    /// The next thing to be done. In this order.
    pub(crate) fn next_action(&mut self) -> Option<Action<D>> {
        self.actions.pop_front()
    }

    /// When to call [`Session::handle_timeout`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether the next message of the source is to be handed in.
    pub(crate) fn wants_message(&self) -> bool {
        self.leaving.is_none()
            && self.at_hole.is_none()
            && self.incoming.is_nothing()
            && self.elsewhere.is_no()
            && self.window.wants_more()
    }

    /// Whether a message that has come already is to be handed in before anything else is waited for.
    pub(crate) fn takes_in_first(&self) -> bool {
        self.wants_message() && (self.window.is_empty() || self.window.is_batched())
    }

    pub(crate) fn spec(&self) -> &Arc<Subscription> {
        &self.spec
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    pub(crate) fn window(&self) -> &Window<D> {
        &self.window
    }

    pub(crate) fn reads(&self) -> Reads {
        self.reads
    }

    /// Whether nothing new is begun any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether all of the lane is written.
    pub(crate) fn is_written(&self) -> bool {
        self.ledger.is_written()
    }

    /// How many messages are settled since it began.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    pub(crate) fn waiting_since(&self) -> Instant {
        self.waiting_since
    }

    /// The newest sequence that has been read, or else settled.
    pub(crate) fn read_to(&self) -> u64 {
        self.window.newest().unwrap_or(self.lane.position)
    }

    /// What the next session goes on with.
    pub(crate) fn into_parts(self) -> (Lane, TargetState) {
        (self.lane, self.target)
    }

    /// After each input: what may be begun now.
    fn go_on(&mut self, now: Now) {
        self.go_elsewhere(now);
        self.wait_at_hole();
        if self.leaving.is_some() {
            self.wind_up(now);
            return;
        }
        self.give_up_on_exhausted();
        self.send_what_may_go(now);
    }

    /// Says when to look again whether the lane has caught up, if it has not.
    fn look_again(&mut self, now: Now) {
        let interval = match self.reads {
            Reads::Consumer | Reads::Past => Some(JOIN_INTERVAL),
            Reads::Tail => self.lane.awaits_the_end(&self.spec).then_some(END_INTERVAL),
        };
        self.timers.put(Timer::Look, interval.map(|interval| now.at + interval));
    }

    fn look(&mut self, now: Now) {
        if self.reads == Reads::Tail {
            self.actions.push_back(Action::AskSource);
        } else if !self.is_joining && self.leaving.is_none() {
            self.is_joining = true;
            self.acknowledge_now();
            self.actions.push_back(Action::JoinTail { read_to: self.read_to() });
        }
        self.look_again(now);
    }

    /// Has the newest event that the lane has had compared with the log, where it was not compared before.
    fn compare(&mut self, now: Now) {
        self.timers.set(Timer::Compare, now.at + COMPARE_INTERVAL);
        let mark = self.lane.mark.as_ref().filter(|mark| mark.sequence > self.compared_to);
        if let (Reads::Consumer | Reads::Past, Some(mark)) = (self.reads, mark) {
            self.compared_to = mark.sequence;
            self.actions.push_back(Action::Compare(mark.clone()));
        }
    }

    /// It follows the tail from now on. What the consumer has acknowledged says nothing of this lane any more: the epoch is
    /// another one, and is written before anything is noted under it.
    fn has_joined(&mut self, now: Now) {
        self.is_joining = false;
        self.reads = Reads::Tail;
        self.lane.epoch = Epoch::WithoutConsumer(fresh_name());
        if let Some(ahead) = &mut self.ahead {
            ahead.epoch = self.lane.epoch.clone();
        }
        self.changed();
        self.ledger.gate_acknowledgements();
        self.write();
        self.look_again(now);
        self.show_by(now.at + SHOW_INTERVAL);
        self.actions.push_back(Action::AskSource);
    }

    /// The source knows that up to here there is nothing that it has not given.
    fn is_given(&mut self, to: Option<u64>, is_at_end: bool) {
        let is_noted = std::mem::take(&mut self.is_noting);
        let Some(to) = to.filter(|_| self.window.is_empty() && self.incoming.is_nothing()) else { return };
        if to > self.lane.clear_to {
            if self.is_stopped_by_hole(self.lane.accounted_to(), to) {
                return;
            }
            self.lane.is_clear_to(to);
            self.changed();
        }
        let is_news = is_at_end && self.reads == Reads::Tail && self.lane.read_to_the_end(&self.spec);
        if is_news {
            self.changed();
        }
        if is_news || is_noted {
            self.checkpoint();
        }
    }

    /// The log begins elsewhere: where it may have cut off what this lane was not given, it is set up anew.
    fn is_cut(&mut self, first_sequence: u64) {
        if self.lane.may_lack(first_sequence) {
            self.leave(Leave::SetUp);
        } else if first_sequence > self.ledger.accounted_to() + 1 {
            self.checkpoint();
        }
    }

    /// Looks whether entries whose end is over have had everything.
    fn check_end(&mut self, now: Now) {
        self.timers.set(Timer::EndCheck, now.at + END_CHECK_INTERVAL);
        // A lane that reads the past goes over to the tail first.
        if self.reads != Reads::Past && self.window.is_empty() && self.incoming.is_nothing() && !self.looks_for_end {
            self.looks_for_end = true;
            self.actions.push_back(Action::LookForEnd);
        }
    }

    /// What is stored from a moment on is all that is not read yet. That moment decides, and not this process's clock: what is
    /// completed stays so.
    fn is_read_to_end(&mut self, to: Option<ReadTo>) {
        // Where a message came meanwhile, it looks again later.
        let is_read = std::mem::take(&mut self.looks_for_end) && self.window.is_empty();
        let Some(ReadTo { sequence, moment }) = to.filter(|_| is_read) else { return };
        let is_over = self.lane.next_over(&self.spec).is_some_and(|over| over < moment);
        if !is_over || self.is_stopped_by_hole(self.lane.accounted_to(), sequence) {
            return;
        }
        if self.lane.complete_over(&self.spec, u64::MAX, moment) {
            self.changed();
            self.leave(Leave::SetUp);
        }
    }

    /// Has the consumer show where the lane is, at that moment at the latest.
    fn show_by(&mut self, at: Instant) {
        if self.reads != Reads::Consumer {
            self.timers.set_if_idle(Timer::Show, at);
        }
    }
}

impl Now {
    /// The moment of this process's clock that a moment in UTC is; now for one that has passed.
    fn instant_of(&self, moment: Stamp) -> Instant {
        let micros = moment.as_micros().saturating_sub(self.utc.as_micros());
        self.at + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// A name that nobody else has.
pub(crate) fn fresh_name() -> String {
    uuid::Uuid::now_v7().to_string()
}
