//! The streams beside the log: dead letters, attempts and positions.

pub mod attempts;
pub mod dead_letters;
pub mod positions;
