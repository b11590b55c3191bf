//! Consumers of the stream `EVENTS`: one URL's durable consumer, and a passing one that reads for many lanes.

mod acknowledgement;
pub mod feed;
pub mod live;
pub mod log_reader;
mod numbered;
mod pull;
