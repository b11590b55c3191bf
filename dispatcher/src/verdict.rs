//! What came of an attempt, and what to do then.

/// What came of one request to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Answered {
        /// With this status.
        status: u16,
        /// And with a body that begins so.
        body: String,
    },
    /// It did not answer: refused, reset, timed out, or not to be found. With the reason.
    Failed(String),
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The target has the event; the next one goes.
    Delivered,
    /// The same event again, after a while.
    Retry,
}

impl Outcome {
    /// The status that the target answered with, if it did.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::Failed(_) => None,
        }
    }

    /// How the target's answer begins, if it said anything.
    pub fn answer(&self) -> Option<&str> {
        match self {
            Self::Answered { body, .. } if !body.is_empty() => Some(body),
            Self::Answered { .. } | Self::Failed(_) => None,
        }
    }

    /// Any 2xx means that the target has the event. Nothing else does: a redirect is not followed, and an event that
    /// a target refuses is held, for the ones after it may only come once it has been taken.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Answered { status: 200..=299, .. } => Verdict::Delivered,
            Self::Answered { .. } | Self::Failed(_) => Verdict::Retry,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { status, .. } => write!(f, "answered {status}"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Outcome {
        Outcome::Answered { status, body: String::new() }
    }

    #[test]
    fn only_a_2xx_is_a_delivery() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answered(status).verdict(), Verdict::Delivered, "{status}");
        }
        for status in [100, 199, 300, 302, 304, 400, 404, 408, 409, 410, 425, 429, 500, 503, 599] {
            assert_eq!(answered(status).verdict(), Verdict::Retry, "{status}");
        }
        assert_eq!(Outcome::Failed("refused".into()).verdict(), Verdict::Retry);
    }
}
