//! The machine, by tables and by crashes.

mod adversary;
mod answers;
mod bench;
mod crashes;
mod dice;
mod forks;
mod rules;
mod server;
mod worker;
mod world;
