//! The processes of this pid namespace, as proc(5) shows them. One that ends meanwhile is simply not there.

use std::collections::HashMap;

use nix::unistd::Pid;

/// A process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// Its name as the kernel knows it: at most 15 bytes.
    pub(crate) name: String,
    parent: Pid,
    /// When it started, in ticks since the boot.
    start_ticks: u64,
}

/// Those that run now.
#[derive(Debug)]
pub(crate) struct Processes(HashMap<Pid, Process>);

impl Processes {
    pub(crate) fn snapshot() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
        Self(pids.filter_map(Process::read).map(|process| (process.pid, process)).collect())
    }

    /// All that `ancestor` started and what these started, as long as each one's parent lives.
    pub(crate) fn descendants(&self, ancestor: Pid) -> Vec<Pid> {
        self.0
            .values()
            .filter(|process| self.ancestors(process).any(|pid| pid == ancestor))
            .map(|one| one.pid)
            .collect()
    }

    /// Those called `name` which none of the others of that name started, the oldest first.
    pub(crate) fn roots_named(&self, name: &str) -> Vec<Process> {
        let name = &name.as_bytes()[..name.len().min(MAX_NAME_LENGTH)];
        let is_called = |process: &Process| process.name.as_bytes() == name;
        let is_first = |process: &&Process| !self.ancestors(process).any(|pid| self.0.get(&pid).is_some_and(is_called));
        let mut first: Vec<Process> =
            self.0.values().filter(|process| is_called(process)).filter(is_first).cloned().collect();
        first.sort_by_key(|process| (process.start_ticks, process.pid));
        first
    }

    /// Its parent, that one's parent and so on. The table is no snapshot, so it may hold a circle of pids used again.
    fn ancestors(&self, process: &Process) -> impl Iterator<Item = Pid> {
        let next = |pid: &Pid| self.0.get(pid).map(|process| process.parent);
        std::iter::successors(Some(process.parent), next).take(self.0.len())
    }
}

impl Process {
    /// The process `pid`, where there is one that has not ended; one that nobody has reaped yet counts as ended.
    pub(crate) fn read(pid: Pid) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// Reads `pid (name) state parent ...`; a name may hold blanks and brackets of its own.
    fn parse(pid: Pid, stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        if ENDED_STATES.contains(fields.first()?) {
            return None;
        }
        Some(Self {
            pid,
            name: name.to_owned(),
            parent: Pid::from_raw(fields.get(PARENT_FIELD)?.parse().ok()?),
            start_ticks: fields.get(START_TIME_FIELD)?.parse().ok()?,
        })
    }
}

/// `TASK_COMM_LEN` without its final NUL.
const MAX_NAME_LENGTH: usize = 15;

/// States of a process that is no more: a zombie, and one that is just being removed.
const ENDED_STATES: [&str; 2] = ["Z", "X"];

/// Fields of `/proc/<pid>/stat`, counted from the one behind the name.
const PARENT_FIELD: usize = 1;
const START_TIME_FIELD: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, name: &str, started: u64, state: &str) -> Option<Process> {
        let zeros = "0 ".repeat(START_TIME_FIELD - PARENT_FIELD - 1);
        Process::parse(Pid::from_raw(pid), &format!("{pid} ({name}) {state} {parent} {zeros}{started} 0 0"))
    }

    fn processes(all: &[(i32, i32, &str, u64, &str)]) -> Processes {
        let all =
            all.iter().filter_map(|(pid, parent, name, started, state)| process(*pid, *parent, name, *started, state));
        Processes(all.map(|process| (process.pid, process)).collect())
    }

    fn pids(processes: &[Process]) -> Vec<i32> {
        processes.iter().map(|process| process.pid.as_raw()).collect()
    }

    #[test]
    fn a_name_may_hold_anything() {
        let odd = process(7, 1, "a) S (b", 9, "S").unwrap();
        assert_eq!((odd.name.as_str(), odd.parent.as_raw(), odd.start_ticks), ("a) S (b", 1, 9));
    }

    #[test]
    fn the_first_of_a_name_is_the_one_that_started_the_others() {
        let table = processes(&[
            (9, 1, "nginx", 50, "S"),
            (4, 9, "nginx", 60, "S"),
            (5, 9, "sh", 60, "S"),
            (6, 5, "nginx", 61, "S"),
            (7, 1, "nginx", 40, "Z"),
        ]);
        assert_eq!(pids(&table.roots_named("nginx")), [9]);
        assert!(table.roots_named("ngin").is_empty());
        let mut below = table.descendants(Pid::from_raw(9));
        below.sort();
        assert_eq!(below, [4, 5, 6].map(Pid::from_raw));
    }

    #[test]
    fn strangers_of_one_name_come_in_the_order_of_their_age_and_long_names_are_cut_as_the_kernel_does() {
        let table = processes(&[(3, 1, "a-very-long-nam", 8, "S"), (2, 1, "a-very-long-nam", 9, "S")]);
        assert_eq!(pids(&table.roots_named("a-very-long-name-indeed")), [3, 2]);
    }

    #[test]
    fn a_circle_ends() {
        assert!(processes(&[(2, 3, "a", 1, "S"), (3, 2, "a", 1, "S")]).roots_named("a").is_empty());
    }
}
