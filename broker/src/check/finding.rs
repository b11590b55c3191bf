//! What a check has found.

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing, and neither good nor bad.
    Note,
    /// mer works, and something that was asked for does not hold.
    Warn,
    /// mer does not work, or may lose what it has acknowledged.
    Wrong,
}

impl Level {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Wrong => "wrong",
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub level: Level,
    /// What was checked.
    pub what: String,
    /// What was found there and, where it is not good, why that matters.
    pub found: String,
    /// How to mend it; empty where there is nothing to mend.
    pub mend: String,
    /// Whether it may mend itself: NATS is away, or a stream has no leader for the moment.
    pub may_pass: bool,
}

impl Finding {
    /// Something that is as it should be.
    pub fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), found: found.into(), mend: String::new(), may_pass: false }
    }

    /// Something that is worth knowing.
    pub fn note(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Note, mend: mend.into(), ..Self::ok(what, found) }
    }

    /// Something that was asked for and does not hold.
    pub fn warn(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, mend: mend.into(), ..Self::ok(what, found) }
    }

    /// Something without which mer does not work, or loses what it has acknowledged.
    pub fn wrong(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Wrong, mend: mend.into(), ..Self::ok(what, found) }
    }

    /// Something that is wrong and may mend itself.
    pub fn away(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { may_pass: true, ..Self::wrong(what, found, mend) }
    }
}
