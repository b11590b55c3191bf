//! Poison messages: what the client library cannot read, and how the services pass it over.
//!
//! nats-server stores the headers of a message as they come. async-nats refuses some of them: it then ends its connection,
//! or panics. A service that asked for such a message asks for it again on the next connection, and would never come past it.
//!
//! - `detection`: notes how often connections are lost, and which messages are known to be poison.
//! - `scan`: reads the next messages one by one (`log::lookup`) before a consumer is asked for them, where detection wants it.
//! - `header_block`: the library's rules for headers. A message that breaks them is passed over.
//! - `connection::handles` starts a client again that has panicked.
//!
//! # When this may be removed
//!
//! | Fault of async-nats 0.51 | Upstream |
//! |---|---|
//! | panics on a carriage return within a header's value | <https://github.com/nats-io/nats.rs/pull/1612>, open in November 2026 |
//! | ends the connection on headers or a subject that are not UTF-8, and on headers that break its rules | panicked until <https://github.com/nats-io/nats.rs/issues/1572>; ends the connection since |
//!
//! The tests in `upstream` give such messages to the library itself. They fail as soon as a version of it reads one, or
//! passes it over, and say which. When all of them fail, this folder may go; `tests/end_to_end/unreadable_messages.rs` must
//! still pass without it. The restart in `connection::handles` stays: the library may panic for other reasons.

pub(crate) mod detection;
pub(crate) mod header_block;
pub(crate) mod scan;
#[cfg(test)]
mod upstream;
