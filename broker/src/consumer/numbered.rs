//! The messages of a consumer, in order and without a gap: the server numbers them.

use async_nats::{Message, Subject};
use domain::Event;

use super::acknowledgement::{Acknowledgement, MessageInfo};
use super::pull::Pulls;
use crate::error::Unavailable;
use crate::log::message::event_of;

/// Messages of a consumer, none of which is missing: the server numbers them.
pub(crate) struct Numbered {
    pulls: Pulls,
    next_number: u64,
}

/// A message of a consumer.
pub(crate) struct ConsumerMessage {
    pub(crate) sequence: u64,
    pub(crate) event: Option<Event>,
    pub(crate) backlog: u64,
    pub(crate) acknowledgement: Acknowledgement,
}

/// Why a feed ended. Open it again, from the lane's position.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A delivery got lost.
    #[error("delivery number {got} came where {expected} was due")]
    Gap {
        /// The number that was due.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// The lane is too far behind the others of its shared reader.
    #[error("the lane is behind")]
    Behind,
    /// The reader for several lanes has ended.
    #[error("what read for several lanes has ended")]
    Ended,
    /// The next message cannot be read. A feed that is opened right before it passes over it.
    #[error("the next message cannot be read")]
    Unreadable,
    /// The consumer is gone, or NATS is.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Numbered {
    pub(crate) fn new(pulls: Pulls, next_number: u64) -> Self {
        Self { pulls, next_number }
    }

    /// The number that the next message must have.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<ConsumerMessage, FeedError> {
        let (message, MessageInfo { sequence, stored_at, pending, .. }, subject) = self.next_message().await?;
        let event = event_of(&message.subject, sequence, stored_at, message.headers.as_ref(), message.payload);
        let acknowledgement = Acknowledgement { handles: self.pulls.handles().clone(), subject };
        Ok(ConsumerMessage { sequence, event, backlog: pending, acknowledgement })
    }

    /// The sequence of the next message, which is looked at no further.
    pub(crate) async fn next_sequence(&mut self) -> Result<u64, FeedError> {
        Ok(self.next_message().await?.1.sequence)
    }

    async fn next_message(&mut self) -> Result<(Message, MessageInfo, Subject), FeedError> {
        let mut message = self.pulls.next().await?.ok_or(FeedError::Unreadable)?;
        let info = message.reply.take().and_then(|subject| Some((MessageInfo::parse(&subject)?, subject)));
        let Some((info, subject)) = info else {
            return Err(Unavailable::new("reading a consumer", "it has sent what cannot be acknowledged").into());
        };
        let expected = self.next_number;
        if info.number != expected {
            return Err(FeedError::Gap { expected, got: info.number });
        }
        self.next_number += 1;
        Ok((message, info, subject))
    }
}
