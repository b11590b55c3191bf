//! Which process a dispatcher is, so that another one on the same machine can tell that it has died and need not wait for
//! its lease to end.

use serde::{Deserialize, Serialize};

/// A process on a machine, as long as that runs. Fields that cannot be read (not Linux) are empty, and then nothing is
/// ever said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    /// The kernel's name for this run of the machine.
    boot: String,
    /// The process ids' own space: a container has one.
    namespace: String,
    id: u32,
    /// When it started, in the kernel's ticks: ids are used again.
    started: String,
}

impl Process {
    /// This one.
    pub(super) fn this() -> Self {
        let id = std::process::id();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            boot: boot.trim().to_owned(),
            namespace: namespace.display().to_string(),
            id,
            started: started(id).unwrap_or_default(),
        }
    }

    /// One of which nothing can be said.
    #[cfg(test)]
    pub(super) fn unknown() -> Self {
        Self { boot: String::new(), namespace: String::new(), id: 0, started: String::new() }
    }

    /// Whether it is known not to run any more, as seen by `here`.
    pub(super) fn is_dead(&self, here: &Self) -> bool {
        let is_known = !self.boot.is_empty() && !self.namespace.is_empty() && !self.started.is_empty();
        let is_here = self.boot == here.boot && self.namespace == here.namespace;
        is_known && is_here && self.is_dead_by(&Sign::of(self.id))
    }

    /// What a sign of the process with this one's id says.
    fn is_dead_by(&self, sign: &Sign) -> bool {
        match sign {
            Sign::Started(started) => *started != self.started,
            Sign::Ended => true,
            Sign::Hidden => false,
        }
    }
}

/// What is to be seen of the process with an id.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    /// It runs, and has started at this time.
    Started(String),
    /// There is none, or it has ended and its parent has not taken note.
    Ended,
    /// There is one, and this user may not see more of it, as with `/proc` mounted with `hidepid`.
    Hidden,
}

impl Sign {
    fn of(id: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok();
        stat.as_deref().and_then(Self::in_stat).unwrap_or_else(|| if exists(id) { Self::Hidden } else { Self::Ended })
    }

    /// What the kernel says of a process. `None`: that cannot be read.
    fn in_stat(stat: &str) -> Option<Self> {
        // The name in brackets may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        if matches!(state, "Z" | "X") {
            Some(Self::Ended)
        } else {
            fields.nth(18).map(|at| Self::Started(at.to_owned()))
        }
    }
}

/// Whether there is a process with an id, by a signal that is not sent: only "no such process" says that there is none.
fn exists(id: u32) -> bool {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    id.is_none_or(|id| rustix::process::test_kill_process(id) != Err(rustix::io::Errno::SRCH))
}

fn started(id: u32) -> Option<String> {
    match Sign::of(id) {
        Sign::Started(started) => Some(started),
        Sign::Ended | Sign::Hidden => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_this_machine_that_has_ended_is_dead() {
        let here = Process::this();
        assert!(!here.is_dead(&here), "{here:?}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process { id: child.id(), started: started(child.id()).unwrap(), ..here.clone() };
        assert!(!process.is_dead(&here));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.is_dead(&here));
        assert!(Process { started: "1".into(), ..here.clone() }.is_dead(&here), "another one has its id");
        for elsewhere in [
            Process { boot: "another".into(), ..process.clone() },
            Process { namespace: "another".into(), ..process.clone() },
            Process { boot: String::new(), ..process },
        ] {
            assert!(!elsewhere.is_dead(&here), "{elsewhere:?}");
        }
    }

    #[test]
    fn a_process_that_this_user_may_not_see_is_not_dead() {
        let here = Process::this();
        assert!(!here.is_dead_by(&Sign::Hidden) && here.is_dead_by(&Sign::Ended));
        // Of the first process, nothing in /proc is needed to know that it is there.
        assert!(exists(1) && exists(here.id));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        assert!(!exists(id));
        assert_eq!(Sign::in_stat("7 (a) b) Z 1"), Some(Sign::Ended));
        assert_eq!(Sign::in_stat("7 (a"), None, "what cannot be read is no sign of death");
    }
}
