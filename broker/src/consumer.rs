//! Consumers of the stream `EVENTS`: one URL's durable consumer, and a passing one that reads for many lanes, or
//! all of the log for what is missing in it.

mod acknowledgement;
pub mod feed;
pub mod live;
pub mod log_reader;
pub mod log_scan;
mod numbered;
mod pull;
