//! Whether NATS takes writes, by what came of the last ones. Pure: outcomes in, a verdict out, time as a parameter.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use tokio::time::Instant;

/// For how long a post that failed says something of the log. Where no more come, nobody knows how the next one would fare.
const POST_COUNTS_FOR: Duration = Duration::from_secs(15);
/// How many writes in a row may go without an answer: a stream that has lost its leader has another one soon.
const UNANSWERED_ALLOWED: u32 = 1;
/// For how long posts may go without an answer.
const POSTS_PATIENCE: Duration = Duration::from_secs(8);

/// Why a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The file system of NATS has no room.
    DiskFull,
    /// The file system of NATS is read-only.
    ReadOnly,
    /// The disk of NATS fails.
    DiskFails,
    /// NATS may not use more storage.
    StorageLimit,
    /// JetStream is off, or the stream is not there.
    NoStream,
    /// There was no answer.
    Unanswered,
}

impl Cause {
    /// Why JetStream refused a write; `None`: not because of its storage.
    ///
    /// nats-server 2.15 has one code for every failure of its store, limits of the stream's own among them, and gives the
    /// operating system's words. So these are compared; a code of their own would end that.
    pub(crate) fn of_refusal(code: ErrorCode, description: &str) -> Option<Self> {
        match code {
            ErrorCode::STREAM_STORE_FAILED if description.contains("no space left") => Some(Self::DiskFull),
            ErrorCode::STREAM_STORE_FAILED if description.contains("quota exceeded") => Some(Self::DiskFull),
            ErrorCode::STREAM_STORE_FAILED if description.contains("read-only file system") => Some(Self::ReadOnly),
            ErrorCode::STREAM_STORE_FAILED if description.contains("input/output error") => Some(Self::DiskFails),
            ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED => Some(Self::StorageLimit),
            ErrorCode::CLUSTER_NOT_AVAILABLE => Some(Self::Unanswered),
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => Some(Self::NoStream),
            _ => None,
        }
    }

    /// Whether it is the disk's, or a limit on what is on it.
    fn is_of_disk(self) -> bool {
        matches!(self, Self::DiskFull | Self::ReadOnly | Self::DiskFails | Self::StorageLimit)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "disk full: NATS has no space left on its device",
            Self::ReadOnly => "read-only file system: NATS cannot write",
            Self::DiskFails => "disk error: NATS cannot write",
            Self::StorageLimit => {
                "disk full: NATS has used all the storage that it may (max_file_store, or the account's limit)"
            }
            Self::NoStream => "JetStream is off, or the stream is not there",
            Self::Unanswered => "NATS does not acknowledge writes (is its disk full, or has the stream no leader?)",
        })
    }
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was acknowledged.
    Written,
    /// It failed.
    Failed(Cause),
    /// This user may not write there, or it was refused for what it is: it says nothing of the storage.
    SaysNothing,
}

/// Writes that fail, none of which succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why the last one did.
    pub cause: Cause,
    /// When the first of them began.
    pub since: Instant,
    /// When the last of them began.
    last: Instant,
    count: u32,
}

impl Failure {
    fn again(before: Option<Self>, cause: Cause, began: Instant) -> Self {
        let (since, last, count) = before.map_or((began, began, 0), |before| (before.since, before.last, before.count));
        Self { cause, since: since.min(began), last: last.max(began), count: count.saturating_add(1) }
    }

    /// Whether the disk is known to be the cause.
    pub fn is_of_disk(&self) -> bool {
        self.cause.is_of_disk()
    }
}

/// What the last writes tell: of the probe, and of posts.
#[derive(Debug, Default)]
pub(crate) struct WriteHealth {
    /// Whether a probe was ever acknowledged. Where none was, silence may mean that this user may not write it.
    may_probe: bool,
    probe: Option<Failure>,
    posts: Option<Failure>,
}

impl WriteHealth {
    /// Takes in what came of a probe that began then.
    pub(crate) fn probed(&mut self, outcome: Outcome, began: Instant) {
        match outcome {
            Outcome::Written => (self.may_probe, self.probe) = (true, None),
            Outcome::Failed(Cause::Unanswered) if !self.may_probe => {}
            Outcome::Failed(cause) => self.probe = Some(Failure::again(self.probe, cause, began)),
            Outcome::SaysNothing => (self.may_probe, self.probe) = (false, None),
        }
    }

    /// Takes in what came of a post that began then.
    pub(crate) fn posted(&mut self, outcome: Outcome, began: Instant) {
        match outcome {
            Outcome::Written => self.posts = None,
            Outcome::Failed(cause) => self.posts = Some(Failure::again(self.posts, cause, began)),
            Outcome::SaysNothing => {}
        }
    }

    /// Whether any write failed since which none like it succeeded.
    pub(crate) fn has_failed(&self) -> bool {
        self.probe.is_some() || self.posts.is_some()
    }

    /// Forgets what failed: it was another server, or the same one anew.
    pub(crate) fn begin_anew(&mut self) {
        (self.probe, self.posts) = (None, None);
    }

    /// Why this process is not ready; `None`: nothing speaks against it.
    pub(crate) fn not_ready(&self, now: Instant) -> Option<Cause> {
        let probe =
            self.probe.filter(|failure| failure.cause != Cause::Unanswered || failure.count > UNANSWERED_ALLOWED);
        let is_silent = |failure: &Failure| failure.last - failure.since >= POSTS_PATIENCE;
        let posts = self.posts.filter(|failure| now < failure.last + POST_COUNTS_FOR);
        let posts = posts.filter(|failure| failure.cause != Cause::Unanswered || is_silent(failure));
        // What is known goes before what is only silence.
        let all = [probe, posts];
        let known = all.into_iter().flatten().find(|failure| failure.is_of_disk());
        known.or(probe).or(posts).map(|failure| failure.cause)
    }

    /// What fails, since when: of posts and probes the one that has failed for longer, and the disk if either knows of it. A
    /// full disk stays one though no more posts come; of silence, the next post may be the end.
    pub(crate) fn failure(&self, now: Instant) -> Option<Failure> {
        let posts = self.posts.filter(|failure| failure.is_of_disk() || now < failure.last + POST_COUNTS_FOR);
        let all = [self.probe, posts].into_iter().flatten();
        let cause = all.clone().map(|failure| failure.cause).find(|cause| cause.is_of_disk());
        let longest = all.min_by_key(|failure| failure.since)?;
        Some(Failure { cause: cause.unwrap_or(longest.cause), ..longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Failed, SaysNothing, Written};

    const SECOND: Duration = Duration::from_secs(1);

    fn after_probes(outcomes: &[Outcome]) -> Option<Cause> {
        let (mut health, mut now) = (WriteHealth::default(), Instant::now());
        for outcome in outcomes {
            health.probed(*outcome, now);
            now += 5 * SECOND;
        }
        health.not_ready(now)
    }

    #[test]
    fn a_probe_that_fails_makes_it_not_ready_and_one_that_succeeds_ready_again() {
        let unanswered = Failed(Cause::Unanswered);
        for (outcomes, expected) in [
            (&[] as &[_], None),
            (&[Written], None),
            (&[Failed(Cause::DiskFull)], Some(Cause::DiskFull)),
            (&[Written, Failed(Cause::ReadOnly)], Some(Cause::ReadOnly)),
            (&[Failed(Cause::DiskFull), Written], None),
            (&[Written, unanswered], None),
            (&[Written, unanswered, unanswered], Some(Cause::Unanswered)),
            (&[Written, unanswered, unanswered, Written], None),
        ] {
            assert_eq!(after_probes(outcomes), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn a_user_who_may_not_write_the_probe_is_ready() {
        let unanswered = Failed(Cause::Unanswered);
        assert_eq!(after_probes(&[unanswered; 5]), None, "nobody ever answered");
        assert_eq!(after_probes(&[SaysNothing, unanswered, unanswered]), None);
        assert_eq!(after_probes(&[Written, SaysNothing, unanswered, unanswered]), None, "it may not any more");
    }

    #[test]
    fn a_post_counts_until_another_is_stored_and_not_for_ever() {
        let (mut health, now) = (WriteHealth::default(), Instant::now());
        health.posted(Failed(Cause::DiskFull), now);
        assert_eq!(health.not_ready(now), Some(Cause::DiskFull));
        assert_eq!(health.not_ready(now + POST_COUNTS_FOR), None, "nobody knows");
        health.posted(Failed(Cause::DiskFull), now + POST_COUNTS_FOR);
        health.posted(Written, now + POST_COUNTS_FOR);
        assert_eq!(health.not_ready(now + POST_COUNTS_FOR), None);
        health.posted(Failed(Cause::Unanswered), now);
        assert_eq!(health.not_ready(now), None, "one alone");
        health.posted(Failed(Cause::Unanswered), now + POSTS_PATIENCE);
        assert_eq!(health.not_ready(now + POSTS_PATIENCE), Some(Cause::Unanswered));
    }

    #[test]
    fn a_failure_lasts_from_the_first_write_and_names_the_disk_where_any_does() {
        let (mut health, now) = (WriteHealth::default(), Instant::now());
        health.probed(Written, now);
        assert!(health.failure(now).is_none() && !health.has_failed());
        health.posted(Failed(Cause::Unanswered), now);
        health.probed(Failed(Cause::DiskFull), now + SECOND);
        let failure = health.failure(now).unwrap();
        assert!(failure.since == now && failure.is_of_disk());
        health.begin_anew();
        assert!(health.failure(now).is_none());
    }

    #[test]
    fn one_post_without_an_answer_is_no_failure_for_ever() {
        let (mut health, now) = (WriteHealth::default(), Instant::now());
        health.posted(Failed(Cause::Unanswered), now);
        health.probed(Written, now + SECOND);
        assert!(health.failure(now + SECOND).is_some());
        assert!(health.failure(now + POST_COUNTS_FOR).is_none(), "nobody knows how the next one would fare");
        health.posted(Failed(Cause::DiskFull), now);
        assert!(health.failure(now + 100 * POST_COUNTS_FOR).is_some(), "it does not go by itself");
    }

    #[test]
    fn only_the_storage_makes_a_refusal_count() {
        let of = |code, description| Cause::of_refusal(ErrorCode(code), description);
        assert_eq!(of(10_077, "write 1.blk: no space left on device"), Some(Cause::DiskFull));
        assert_eq!(of(10_077, "open 2.blk: read-only file system"), Some(Cause::ReadOnly));
        assert_eq!(of(10_077, "fsync 2.blk: input/output error"), Some(Cause::DiskFails));
        assert_eq!(of(10_077, "maximum bytes exceeded"), None, "a limit of the stream's own, as it was asked for");
        assert_eq!(of(10_023, "insufficient resources"), Some(Cause::StorageLimit));
        assert_eq!(of(10_002, "resource limits exceeded for account"), Some(Cause::StorageLimit));
        assert_eq!(of(10_047, "insufficient storage resources available"), Some(Cause::StorageLimit));
        assert_eq!(of(10_071, "wrong last sequence: 2"), None);
        assert!(Cause::StorageLimit.to_string().starts_with("disk full"));
    }
}
