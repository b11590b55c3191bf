//! What goes round messages that the client library cannot read.

pub(crate) mod detection;
pub(crate) mod header_block;
pub(crate) mod scan;
