//! What came of an attempt, and what to do then.

use std::time::Duration;

use domain::Stamp;

use crate::push::retry_after;

/// What came of one request to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// It answered.
    Answered(Answer),
    /// It did not answer: refused, reset, timed out, or not to be found. With the reason.
    Failed(String),
}

/// What matters of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header `Retry-After`.
    pub retry_after: Option<String>,
    /// Its header `Resume-After`.
    pub resume_after: Option<String>,
    /// How its body begins.
    pub body: String,
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The target has the event; the next one goes.
    Delivered,
    /// The same event again, after a while: at least as long as the target asks for.
    Retry {
        /// What it asks for.
        after: Option<Duration>,
    },
    /// The target has had everything up to this sequence: deliveries go on behind it.
    ResumeAfter(u64),
    /// The target wants nothing any more.
    Gone,
}

impl PushOutcome {
    /// The status that the target answered with, if it did.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::Failed(_) => None,
        }
    }

    /// How the target's answer begins, if it said anything.
    pub fn said(&self) -> Option<&str> {
        match self {
            Self::Answered(answer) if !answer.body.is_empty() => Some(&answer.body),
            Self::Answered(_) | Self::Failed(_) => None,
        }
    }

    /// Any 2xx means that the target has the event, 410 that it wants none, 409 with a `Resume-After` that it is
    /// elsewhere. With anything else the event is held: a redirect is not followed, and the events behind one that a
    /// target refuses may only come once it has been taken.
    pub fn verdict(&self, now: Stamp) -> Verdict {
        let Self::Answered(answer) = self else { return Verdict::Retry { after: None } };
        let resume_after = answer.resume_after.as_deref().and_then(|text| text.trim().parse().ok());
        match (answer.status, resume_after) {
            (200..=299, _) => Verdict::Delivered,
            (410, _) => Verdict::Gone,
            (409, Some(sequence)) => Verdict::ResumeAfter(sequence),
            _ => Verdict::Retry { after: answer.retry_after.as_deref().and_then(|text| retry_after::parse(text, now)) },
        }
    }
}

impl std::fmt::Display for PushOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered(answer) => write!(f, "answered {}", answer.status),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    fn answered(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    fn verdict(answer: Answer) -> Verdict {
        PushOutcome::Answered(answer).verdict(NOW)
    }

    #[test]
    fn only_a_2xx_is_a_delivery() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(verdict(answered(status)), Verdict::Delivered, "{status}");
        }
        for status in [100, 199, 300, 302, 304, 400, 404, 408, 409, 425, 429, 500, 503, 599] {
            assert_eq!(verdict(answered(status)), Verdict::Retry { after: None }, "{status}");
        }
        assert_eq!(verdict(answered(410)), Verdict::Gone);
        assert_eq!(PushOutcome::Failed("refused".into()).verdict(NOW), Verdict::Retry { after: None });
    }

    #[test]
    fn what_a_target_says_beside_its_status_is_heeded_where_it_means_something() {
        let with = |status, retry_after: Option<&str>, resume_after: Option<&str>| {
            verdict(Answer {
                retry_after: retry_after.map(str::to_owned),
                resume_after: resume_after.map(str::to_owned),
                ..answered(status)
            })
        };
        let after = |secs| Verdict::Retry { after: Some(Duration::from_secs(secs)) };
        assert_eq!(with(503, Some("7"), None), after(7));
        assert_eq!(with(429, Some("soon"), None), Verdict::Retry { after: None });
        assert_eq!(with(409, None, Some("17")), Verdict::ResumeAfter(17));
        assert_eq!(with(409, Some("2"), Some("x")), after(2));
        assert_eq!(with(500, None, Some("17")), Verdict::Retry { after: None });
        assert_eq!(with(200, Some("7"), Some("17")), Verdict::Delivered);
    }
}
