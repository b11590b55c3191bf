//! Where lanes read, and what is remembered of what was read.
//!
//! - `tail`: the end of the log, read once for all lanes that have caught up; `shared_catch_up`: the past, read once
//!   for lanes that want the same of it. `queue`: what waits for one lane that is read for together with others;
//!   `recent`: what was read last. `standings`: how far such lanes have come, for those who ask.
//! - `position_log`: how far lanes that follow the tail have come, written every few milliseconds.
//! - `log_bounds`: where the log begins and ends, looked up every second.
//! - `known_log`: which log it is, as the log watch has found it.
//! - `transactions`: earlier events of a transaction, for `required_data`.
//!
//! It knows nothing of targets, and decides nothing about a lane's position.

pub(crate) mod known_log;
pub(crate) mod log_bounds;
pub(crate) mod position_log;
pub(crate) mod queue;
mod recent;
pub(crate) mod shared_catch_up;
pub(crate) mod standings;
pub(crate) mod tail;
pub(crate) mod transactions;
