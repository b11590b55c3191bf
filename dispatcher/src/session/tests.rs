//! The machine, by tables and by crashes.

mod adversary;
mod answers;
mod bench;
mod crashes;
mod dice;
mod forks;
mod holes;
mod intake;
mod leaving;
mod letters;
mod losses;
mod requests;
mod rules;
mod server;
mod settled;
mod source;
mod times;
mod worker;
mod world;
