//! The poison scan: reads the next messages for a consumer one by one, before the consumer is asked for them.
//!
//! A consumer delivers the messages that its filters let through, in the log's order. So a reader that has scanned the next
//! few of these, and asks the consumer for as many, gets those and no others. `detection` says when a scan is needed.

use std::collections::VecDeque;

use crate::connection::Broker;
use crate::error::Unavailable;
use crate::log::lookup;

/// How many messages a scan reads. The message that ended the connection had been asked for by a reader that had read, and
/// not settled, fewer than this before it.
const MOST: usize = 1024;
/// How many messages are scanned before they are asked for.
const AT_A_TIME: usize = 32;
/// How much data these may have, in bytes. The message that goes beyond is still one of them.
const BYTES_AT_A_TIME: usize = 4 * 1024 * 1024;

/// A scan of the messages behind a sequence, of some subjects.
pub(crate) struct PoisonScan {
    broker: Broker,
    filters: Vec<FilterScan>,
    /// All messages up to here are scanned.
    scanned_to: u64,
    /// How many more messages are scanned.
    left: usize,
    /// How many scanned messages are readable and were not answered yet, and their size.
    clear: usize,
    clear_bytes: usize,
}

/// What a scan has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// The next so many messages can be read.
    Clear(usize),
    /// The very next message cannot be read.
    Unreadable,
    /// The scan is over: what is stored from now on has not ended a connection yet.
    Open,
}

/// Unreadable messages right before the first one that a consumer delivers.
#[derive(Default)]
pub(crate) struct PassedOver {
    sequences: VecDeque<u64>,
    /// How many messages are known to be behind them.
    behind: u64,
}

/// The messages of one subject, which may hold wildcards.
struct FilterScan {
    subject: String,
    next: NextMessage,
}

#[derive(Clone, Copy)]
enum NextMessage {
    Unknown,
    Nothing,
    Found(ScannedMessage),
}

#[derive(Clone, Copy)]
struct ScannedMessage {
    sequence: u64,
    bytes: usize,
    is_readable: bool,
}

impl PoisonScan {
    /// For a consumer that is to deliver the messages behind a sequence that these filters let through. `None`: no scan is
    /// needed.
    pub(crate) fn behind(broker: &Broker, sequence: u64, filters: impl Iterator<Item = String>) -> Option<Self> {
        broker.poison_detection().wants_scan_behind(sequence).then(|| Self {
            broker: broker.clone(),
            filters: filters.map(|subject| FilterScan { subject, next: NextMessage::Unknown }).collect(),
            scanned_to: sequence,
            left: MOST,
            clear: 0,
            clear_bytes: 0,
        })
    }

    /// Passes over the unreadable messages before the next readable one, up to a number.
    async fn pass_over(&mut self) -> Result<PassedOver, Unavailable> {
        let mut passed_over = PassedOver::default();
        while passed_over.sequences.len() < MOST
            && let Some(next) = self.next().await?.filter(|next| !next.is_readable)
        {
            self.scanned_to = next.sequence;
            passed_over.sequences.push_back(next.sequence);
        }
        Ok(passed_over)
    }

    /// Scans on. Nothing is lost where the caller stops waiting.
    pub(crate) async fn scan_on(&mut self) -> Result<Ahead, Unavailable> {
        while self.left > 0 && self.clear < AT_A_TIME && self.clear_bytes < BYTES_AT_A_TIME {
            match self.next().await? {
                Some(next) if next.is_readable => {
                    self.scanned_to = next.sequence;
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

    async fn next(&mut self) -> Result<Option<ScannedMessage>, Unavailable> {
        for filter in &mut self.filters {
            if filter.is_to_be_scanned(self.scanned_to) {
                filter.next = match lookup::next(&self.broker, self.scanned_to + 1, &filter.subject).await? {
                    Some(message) => NextMessage::Found(ScannedMessage {
                        sequence: message.sequence,
                        bytes: message.bytes,
                        is_readable: message.is_readable(),
                    }),
                    None => NextMessage::Nothing,
                };
            }
        }
        Ok(self.filters.iter().filter_map(FilterScan::found).min_by_key(|found| found.sequence))
    }
}

impl PassedOver {
    /// What a scan, if there is one, passes over at first.
    pub(crate) async fn by(scan: &mut Option<PoisonScan>) -> Result<Self, Unavailable> {
        match scan {
            Some(scan) => scan.pass_over().await,
            None => Ok(Self::default()),
        }
    }

    /// The last of them.
    pub(crate) fn end(&self) -> Option<u64> {
        self.sequences.back().copied()
    }

    /// Notes how many messages are behind them. Answers with the sum of both.
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

impl FilterScan {
    fn is_to_be_scanned(&self, scanned_to: u64) -> bool {
        match self.next {
            NextMessage::Unknown => true,
            NextMessage::Nothing => false,
            NextMessage::Found(found) => found.sequence <= scanned_to,
        }
    }

    fn found(&self) -> Option<ScannedMessage> {
        match self.next {
            NextMessage::Found(found) => Some(found),
            NextMessage::Unknown | NextMessage::Nothing => None,
        }
    }
}
