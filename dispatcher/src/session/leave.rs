//! Why a session is left.

/// Why a session is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Something changed: set up again.
    SetUp,
    /// The dispatcher stops, or nothing is wanted of this lane any more.
    End,
}
