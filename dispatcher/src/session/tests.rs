//! The machine, by tables and by crashes.

mod adversary;
mod answers;
mod crashes;
mod dice;
mod rules;
mod world;
