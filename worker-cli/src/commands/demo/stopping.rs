//! What the demo started, and how it is stopped: at its end, on Ctrl-C, and after an error alike.
//!
//! Only processes that the demo started are ended. A node in the background is found by its command line, which shows its
//! data directory, below the demo's own temporary folder; so one that is just starting is found too.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what was asked to end may take, before it is killed.
const END: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

static STARTED: Mutex<Started> = Mutex::new(Started {
    what: Vec::new(),
    over: false,
});

struct Started {
    what: Vec<Stop>,
    /// From now on nothing is started any more.
    over: bool,
}

/// How one thing is stopped.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    /// A process of the demo.
    Process(u32),
    /// The node of a data directory.
    Node(PathBuf),
    /// A command that does it.
    Command(Vec<String>),
}

/// Starts something through `start`, and has it stopped at the end; `None` where that has come already.
pub(super) fn start<T>(start: impl FnOnce() -> std::io::Result<(T, Stop)>) -> Option<std::io::Result<T>> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if started.over {
        return None;
    }
    Some(start().map(|(value, stop)| {
        started.what.push(stop);
        value
    }))
}

/// Whether the end has come.
pub(super) fn is_over() -> bool {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).over
}

/// Stops everything that was started, the last first; nothing that is gone already is missed.
pub(super) fn stop_all() {
    let what = {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        started.over = true;
        std::mem::take(&mut started.what)
    };
    for stop in what.iter().rev() {
        match stop {
            Stop::Process(pid) => end(&[*pid]),
            Stop::Node(dir) => end(&nodes_of(dir)),
            Stop::Command(words) => run(words),
        }
    }
}

/// The commands that stop what goes on running.
pub(super) fn commands() -> Vec<String> {
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = started.what.iter().rev().filter_map(|stop| match stop {
        Stop::Process(pid) => Some(format!("kill {pid}")),
        Stop::Node(dir) => {
            let pids: Vec<String> = nodes_of(dir).iter().map(u32::to_string).collect();
            (!pids.is_empty()).then(|| format!("kill {}", pids.join(" ")))
        }
        Stop::Command(words) => Some(quote(words)),
    });
    shown.collect()
}

fn end(pids: &[u32]) {
    for signal in ["TERM", "KILL"] {
        let running: Vec<u32> = pids.iter().copied().filter(|pid| runs(*pid)).collect();
        if running.is_empty() {
            return;
        }
        for pid in &running {
            // The shell's own: a small machine has no program of that name.
            run(&["sh", "-c", &format!("kill -{signal} {pid}")].map(str::to_owned));
        }
        let deadline = Instant::now() + END;
        while running.iter().any(|pid| runs(*pid)) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}

/// Whether a process still runs; one that has ended and whose parent has not asked yet does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some(None | Some('Z' | 'X')))
}

/// Processes of this program that run the node of a data directory.
fn nodes_of(dir: &Path) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let dir = dir.display().to_string();
    pids.filter(|pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&b"run".as_slice())
            && words
                .windows(2)
                .any(|pair| pair == [b"--data-dir".as_slice(), dir.as_bytes()])
    })
    .collect()
}

fn run(words: &[String]) {
    let Some((program, rest)) = words.split_first() else {
        return;
    };
    let mut command = Command::new(program);
    command
        .args(rest)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(error) = command.status() {
        tracing::warn!(%error, program, "cannot stop");
    }
}

fn quote(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_its_data_directory_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        // A program that stays, with the words of a node's command line.
        let script = dir.path().join("run");
        std::fs::write(&script, "read line").unwrap();
        let mut child = Command::new("sh")
            .args(["run", "--data-dir", &path])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + END;
        while nodes_of(dir.path()).is_empty() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(nodes_of(dir.path()), [child.id()]);
        assert!(nodes_of(&dir.path().join("other")).is_empty());
        end(&[child.id()]);
        assert!(!runs(child.id()));
        assert!(!child.wait().unwrap().success());
        assert!(nodes_of(dir.path()).is_empty());
    }

    #[test]
    fn a_command_is_shown_as_a_shell_takes_it() {
        let words = ["pg_ctl", "-o", "-p 1", "it's", ""].map(str::to_owned);
        assert_eq!(quote(&words), r"pg_ctl -o '-p 1' 'it'\''s' ''");
    }
}
