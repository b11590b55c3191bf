//! Faults of today's build that are known: each by name, with its row of the issues on faults. A name goes when its row is mended.

use crate::fault::{Fault, Kind, Mark};

pub(crate) struct Tolerated {
    pub(crate) name: &'static str,
    /// Which row of which issue.
    pub(crate) row: &'static str,
    is_it: fn(&Fault) -> bool,
}

pub(crate) const ALL: &[Tolerated] = &[Tolerated {
    name: "registered-a-moment-ago",
    row: "docs/known-limits.md: a lane hears of a registration a moment after its 200, and others may overtake meanwhile",
    is_it: |fault| fault.kind == Kind::Overtook && fault.has(Mark::JustRegistered),
}];

/// The name of a fault, if it is known.
pub(crate) fn name(fault: &Fault) -> Option<&'static str> {
    ALL.iter().find(|tolerated| (tolerated.is_it)(fault)).map(|tolerated| tolerated.name)
}
