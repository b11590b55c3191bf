//! Looking at what a consumer will give, before it is asked to: see `suspicion`.
//!
//! A consumer gives what its filters let through in the log's order. So whoever has looked at the next few of these, and
//! asks it for so many, is given those and no others.

use std::collections::VecDeque;

use crate::connection::Broker;
use crate::error::Unavailable;
use crate::log::lookup;

/// How many messages are looked at: the one that ended the connection had been asked for by somebody who had read, and not
/// settled, less than this before it.
const MOST: usize = 1024;
/// How many are looked at before they are asked for.
const AT_A_TIME: usize = 32;
/// The most data that they may have, in bytes, beside the message that goes beyond.
const BYTES_AT_A_TIME: usize = 4 * 1024 * 1024;

/// The messages behind a sequence, of some subjects.
pub(crate) struct Lookout {
    broker: Broker,
    ways: Vec<Way>,
    /// All up to here has been looked at.
    seen_to: u64,
    /// How many more are looked at.
    left: usize,
    /// Those of them that are readable and were not answered yet: how many, and their size.
    clear: usize,
    clear_bytes: usize,
}

/// What lies ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// The next so many messages can be read.
    Clear(usize),
    /// The very next one cannot.
    Unreadable,
    /// There is nothing more to look at: what is stored from now on has not ended a connection yet.
    Open,
}

/// Messages that cannot be read and lie right before what a consumer gives.
#[derive(Default)]
pub(crate) struct PassedOver {
    sequences: VecDeque<u64>,
    /// How many messages are known to be behind them.
    behind: u64,
}

/// The messages of one subject, which may hold wildcards.
struct Way {
    subject: String,
    next: Next,
}

#[derive(Clone, Copy)]
enum Next {
    Unknown,
    Nothing,
    Message(Sighting),
}

#[derive(Clone, Copy)]
struct Sighting {
    sequence: u64,
    bytes: usize,
    is_readable: bool,
}

impl Lookout {
    /// For a consumer that is to give what lies behind a sequence and is let through by a filter of these: `None` where
    /// there is no reason to look.
    pub(crate) fn behind(broker: &Broker, sequence: u64, filters: impl Iterator<Item = String>) -> Option<Self> {
        broker.suspicion().is_about_what_follows(sequence).then(|| Self {
            broker: broker.clone(),
            ways: filters.map(|subject| Way { subject, next: Next::Unknown }).collect(),
            seen_to: sequence,
            left: MOST,
            clear: 0,
            clear_bytes: 0,
        })
    }

    /// Passes over unreadable messages before the next readable one; a bounded number of them.
    async fn pass_over(&mut self) -> Result<PassedOver, Unavailable> {
        let mut passed_over = PassedOver::default();
        while passed_over.sequences.len() < MOST
            && let Some(next) = self.next().await?.filter(|next| !next.is_readable)
        {
            self.seen_to = next.sequence;
            passed_over.sequences.push_back(next.sequence);
        }
        Ok(passed_over)
    }

    /// Looks on. Whoever stops waiting for it loses nothing.
    pub(crate) async fn look(&mut self) -> Result<Ahead, Unavailable> {
        while self.left > 0 && self.clear < AT_A_TIME && self.clear_bytes < BYTES_AT_A_TIME {
            match self.next().await? {
                Some(next) if next.is_readable => {
                    self.seen_to = next.sequence;
                    self.left -= 1;
                    self.clear += 1;
                    self.clear_bytes += next.bytes;
                }
                Some(_) if self.clear == 0 => return Ok(Ahead::Unreadable),
                Some(_) => break,
                None => self.left = 0,
            }
        }
        self.clear_bytes = 0;
        Ok(match std::mem::take(&mut self.clear) {
            0 => Ahead::Open,
            clear => Ahead::Clear(clear),
        })
    }

    async fn next(&mut self) -> Result<Option<Sighting>, Unavailable> {
        for way in &mut self.ways {
            if way.is_to_be_looked_at(self.seen_to) {
                way.next = match lookup::next(&self.broker, self.seen_to + 1, &way.subject).await? {
                    Some(message) => Next::Message(Sighting {
                        sequence: message.sequence,
                        bytes: message.bytes,
                        is_readable: message.is_readable(),
                    }),
                    None => Next::Nothing,
                };
            }
        }
        Ok(self.ways.iter().filter_map(Way::sighting).min_by_key(|sighting| sighting.sequence))
    }
}

impl PassedOver {
    /// What somebody who looks passes over at first.
    pub(crate) async fn by(lookout: &mut Option<Lookout>) -> Result<Self, Unavailable> {
        match lookout {
            Some(lookout) => lookout.pass_over().await,
            None => Ok(Self::default()),
        }
    }

    /// All these lie at or before it.
    pub(crate) fn end(&self) -> Option<u64> {
        self.sequences.back().copied()
    }

    /// There are so many messages behind them. Answers how many that is with these.
    pub(crate) fn lie_before(&mut self, messages: u64) -> u64 {
        self.behind = messages;
        self.len() + messages
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    fn len(&self) -> u64 {
        self.sequences.len() as u64
    }

    /// The next one, and how many messages are behind it.
    pub(crate) fn next(&mut self) -> Option<(u64, u64)> {
        let sequence = self.sequences.pop_front()?;
        Some((sequence, self.len() + self.behind))
    }
}

impl Way {
    fn is_to_be_looked_at(&self, seen_to: u64) -> bool {
        match self.next {
            Next::Unknown => true,
            Next::Nothing => false,
            Next::Message(sighting) => sighting.sequence <= seen_to,
        }
    }

    fn sighting(&self) -> Option<Sighting> {
        match self.next {
            Next::Message(sighting) => Some(sighting),
            Next::Unknown | Next::Nothing => None,
        }
    }
}
