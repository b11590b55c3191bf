//! A child process that does not outlive the test.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A child; killed on drop, and when the test's process dies.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        die_with_parent(command);
        let name = command.get_program().to_string_lossy().into_owned();
        Self(command.spawn().unwrap_or_else(|error| panic!("starting {name}: {error}")))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("looking after a child").is_some()
    }

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("killing a child");
        self.0.wait().expect("waiting for a child");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("signalling a child");
    }

    /// SIGTERM, and waits for the end. Answers whether it ended well. Meanwhile the targets of the same test answer, as those of
    /// a mer that stops do: what is on its way to them arrives.
    pub(crate) async fn stop(&mut self) -> bool {
        self.signal(Signal::TERM);
        let began = Instant::now();
        loop {
            match self.0.try_wait().expect("waiting for a child") {
                Some(status) => return status.success(),
                None => assert!(began.elapsed() < STOP_DEADLINE, "it does not stop"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "prctl between fork and exec, which allocates nothing")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let set = || rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from);
    // SAFETY: the closure makes one system call and touches no memory of the parent.
    unsafe {
        command.pre_exec(set);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}
