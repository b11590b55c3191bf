//! What was run and found, in all: kept in a file, so that runs add up over days.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::history::What;
use crate::plan::Plan;
use crate::world::Outcome;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    runs: u64,
    operations: u64,
    events: u64,
    requests: u64,
    new_faults: u64,
    /// How often each known fault was seen.
    pub(crate) tolerated: BTreeMap<String, u64>,
}

impl Totals {
    /// What one run adds.
    pub(crate) fn of_run(plan: &Plan, outcome: &Outcome, known: &BTreeMap<&str, u64>, new: usize) -> Self {
        let count = |is_it: fn(&What) -> bool| outcome.lines.iter().filter(|line| is_it(&line.what)).count() as u64;
        Self {
            runs: 1,
            operations: plan.operations.len() as u64,
            events: count(|what| matches!(what, What::Posted { .. })),
            requests: count(|what| matches!(what, What::Came { .. })),
            new_faults: new as u64,
            tolerated: known.iter().map(|(name, times)| ((*name).to_owned(), *times)).collect(),
        }
    }

    pub(crate) fn add(&mut self, more: &Self) {
        let Self { runs, operations, events, requests, new_faults, tolerated } = more;
        self.runs += runs;
        self.operations += operations;
        self.events += events;
        self.requests += requests;
        self.new_faults += new_faults;
        for (name, times) in tolerated {
            *self.tolerated.entry(name.clone()).or_default() += times;
        }
    }

    /// Adds these to what is in a file. Returns the sum, which is in the file then. A kill leaves the file as it was before, or
    /// as it is afterwards.
    pub(crate) fn add_to(&self, file: &Path) -> Result<Self> {
        let mut sum: Self = match fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} has no totals", file.display()))?,
            Err(_) => Self::default(),
        };
        sum.add(self);
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(&sum)?).with_context(|| new.display().to_string())?;
        fs::rename(&new, file).with_context(|| file.display().to_string())?;
        Ok(sum)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, operations, events, requests, new_faults, tolerated } = self;
        let known: u64 = tolerated.values().sum();
        write!(
            f,
            "{runs} runs, {operations} operations, {events} events, {requests} requests: {new_faults} new faults, {known} known"
        )
    }
}

/// Writes a run's operations and history into a folder, one line of JSON each, and what mer has logged.
pub(crate) fn write_history(folder: &Path, plan: &Plan, outcome: &Outcome) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = fs::File::create(folder.join(format!("{}.jsonl", plan.seed)))?;
    for (n, line) in outcome.lines.iter().enumerate() {
        writeln!(file, "{n} {}", serde_json::to_string(line)?)?;
    }
    let operations: Vec<String> = plan.operations.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    fs::write(folder.join(format!("{}.operations.jsonl", plan.seed)), operations.join("\n"))?;
    for (n, log) in outcome.logs.iter().enumerate() {
        fs::write(folder.join(format!("{}.mer-{n}.log", plan.seed)), log)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn totals_add_up_in_a_file() {
        let file = std::env::temp_dir().join(format!("model-totals-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let once = Totals { runs: 2, new_faults: 1, tolerated: [("known".to_owned(), 3)].into(), ..Totals::default() };
        assert_eq!(once.add_to(&file).unwrap(), once);
        let twice = once.add_to(&file).unwrap();
        assert_eq!((twice.runs, twice.new_faults, twice.tolerated["known"]), (4, 2, 6));
        std::fs::remove_file(&file).unwrap();
    }
}
