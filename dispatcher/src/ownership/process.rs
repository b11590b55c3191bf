//! Which process a dispatcher is, so that another one on the same machine can tell that it has died and need not wait for
//! its lease to end.

use serde::{Deserialize, Serialize};

/// A process on a machine, as long as that runs. Fields that cannot be read (not Linux) are empty, and then nothing is
/// ever said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
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
    pub(crate) fn this() -> Self {
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

    /// Whether it is known not to run any more, as seen by `here`.
    pub(crate) fn is_dead(&self, here: &Self) -> bool {
        let is_known = !self.boot.is_empty() && !self.namespace.is_empty() && !self.started.is_empty();
        let is_here = self.boot == here.boot && self.namespace == here.namespace;
        is_known && is_here && started(self.id).is_none_or(|started| started != self.started)
    }
}

/// When a process started; `None` where there is none, or it has ended and nobody has taken note.
fn started(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in brackets may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18).map(str::to_owned) }
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
}
