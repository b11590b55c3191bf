//! A model of the wire contract, run against the real mer: random operations, and a checker of what came of them.
//! `tests/model/run` builds and runs it.
//!
//! - [`plan`] makes a run's operations ([`operation`]) of a seed ([`random`]); parts can be left out.
//! - [`world`] carries them out on a nats-server, a mer and targets of its own: [`user`] posts and calls, [`target`] answers,
//!   and all of it is written down in a [`history`].
//! - [`checker`] reads a history and says what is wrong ([`fault`]); it is pure. [`facts`] is what the whole history says,
//!   [`words`] what a URL has been told to get, [`expectation`] what is to come to it, [`rest`] what must be so at rest.
//! - [`tolerated`] names the faults that are known, by their [`marks`]; [`mod@shrink`] makes a failing plan small; [`ledger`]
//!   keeps totals in a file.
//!
//! The checker must not know how mer works: what it says comes from the contract. It shares no code with `domain` but times.

#![allow(clippy::disallowed_methods, reason = "it talks to mer and to itself only")]

mod checker;
#[cfg(test)]
mod doctored;
mod expectation;
mod facts;
mod fault;
mod history;
mod ledger;
mod marks;
mod operation;
mod pattern;
mod plan;
mod random;
mod rest;
mod shrink;
mod target;
mod tolerated;
mod user;
mod words;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::task::JoinSet;

use crate::fault::Fault;
use crate::ledger::Totals;
use crate::plan::{Part, Plan};
use crate::world::{Outcome, Tested};

/// How many faults of a run are shown.
const SHOWN: usize = 8;
/// A run that takes longer than this hangs.
const RUN_DEADLINE: Duration = Duration::from_secs(240);

/// Hold mer against a model of its contract, by random operations
#[derive(Parser)]
#[command(name = "tests/model/run")]
struct Options {
    /// How many runs
    #[arg(long, default_value_t = 200)]
    runs: u64,

    /// The seed of the first run; the next ones have the numbers behind it
    #[arg(long)]
    seed: Option<u64>,

    /// How many operations a run has
    #[arg(long, default_value_t = 70)]
    operations: usize,

    /// How many runs go on at a time
    #[arg(long, default_value_t = 4)]
    worlds: usize,

    /// Leave these parts out
    #[arg(long, value_delimiter = ',')]
    without: Vec<Part>,

    /// Add the totals of each run to those in this file, as soon as it has ended
    #[arg(long, value_name = "FILE")]
    totals: Option<PathBuf>,

    /// How often a failing run is tried with fewer operations
    #[arg(long, default_value_t = 12)]
    shrink: usize,

    /// Write the history of each failing run into this folder, and what mer has logged
    #[arg(long, value_name = "FOLDER")]
    histories: Option<PathBuf>,

    /// Fail on known faults too
    #[arg(long)]
    strict: bool,

    #[command(flatten)]
    tested: Tested,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Arc::new(Options::parse());
    let first = options.seed.unwrap_or_else(a_seed);
    ensure!(options.worlds > 0, "--worlds must not be 0");
    println!("{} runs from seed {first}", options.runs);
    let (began, mut totals, mut failed) = (Instant::now(), Totals::default(), Vec::new());
    let (mut running, mut seeds, mut all_together) = (JoinSet::new(), first..first + options.runs, None);
    loop {
        while running.len() < options.worlds {
            let Some(seed) = seeds.next() else { break };
            let options = options.clone();
            running.spawn(async move {
                let plan = plan::of(seed, options.operations, &options.without);
                let outcome = attempt(&plan, &options.tested).await;
                (plan, outcome)
            });
        }
        let Some(ended) = running.join_next().await else { break };
        let (plan, outcome) = ended?;
        let is_bad = match &outcome {
            Ok(outcome) => {
                let (run, is_bad) = report(&options, &plan, outcome)?;
                totals.add(&run);
                if let Some(file) = &options.totals {
                    all_together = Some(run.add_to(file)?);
                }
                is_bad
            }
            Err(error) => {
                println!("seed {}: it could not be run: {error:#}", plan.seed);
                true
            }
        };
        if is_bad {
            failed.push((plan, outcome.map(|outcome| outcome.faults).unwrap_or_default()));
        }
    }
    println!("{totals}, {} s", began.elapsed().as_secs());
    for (name, count) in &totals.tolerated {
        let row = tolerated::ALL.iter().find(|tolerated| tolerated.name == name).map_or("", |tolerated| tolerated.row);
        println!("tolerated {name}: {count} ({row})");
    }
    if let Some(all) = all_together {
        println!("all together: {all}");
    }
    // One that could not be run at all says nothing of its plan.
    if let Some((plan, faults)) = failed.iter().find(|(_, faults)| !faults.is_empty() && options.shrink > 0) {
        shrink(&options, plan, faults).await?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn a_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() * 1_000
}

/// Carries out a plan in a runtime of its own: a panic of the harness is a failure of this run alone.
async fn attempt(plan: &Plan, tested: &Tested) -> Result<Outcome> {
    let (plan, tested) = (plan.clone(), tested.clone());
    let carry_out = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let run = tokio::time::timeout(RUN_DEADLINE, world::run(&plan, &tested));
            run.await.context("it hangs")?
        })
    };
    tokio::task::spawn_blocking(carry_out).await.context("the harness has panicked")?
}

/// Shows what came of a run. Returns its totals, and whether it fails.
fn report(options: &Options, plan: &Plan, outcome: &Outcome) -> Result<(Totals, bool)> {
    let (mut known, mut new): (BTreeMap<&str, u64>, Vec<&Fault>) = (BTreeMap::new(), Vec::new());
    for fault in &outcome.faults {
        match tolerated::name(fault).filter(|_| !options.strict) {
            Some(name) => *known.entry(name).or_default() += 1,
            None => new.push(fault),
        }
    }
    if !known.is_empty() {
        println!("seed {}: known faults: {known:?}", plan.seed);
    }
    for fault in new.iter().take(SHOWN) {
        println!("seed {}: {fault}", plan.seed);
    }
    if new.len() > SHOWN {
        println!("seed {}: and {} more", plan.seed, new.len() - SHOWN);
    }
    if let Some(folder) = options.histories.as_ref().filter(|_| !new.is_empty() || !known.is_empty()) {
        ledger::write_history(folder, plan, outcome)?;
    }
    Ok((Totals::of_run(plan, outcome, &known, new.len()), !new.is_empty()))
}

async fn shrink(options: &Options, plan: &Plan, faults: &[Fault]) -> Result<()> {
    println!("seed {}: making it smaller, {} tries", plan.seed, options.shrink);
    let kinds: Vec<_> =
        faults.iter().filter(|fault| tolerated::name(fault).is_none()).map(|fault| fault.kind).collect();
    let is_red = async |plan: &Plan| {
        let Ok(outcome) = attempt(plan, &options.tested).await else { return kinds.is_empty() };
        let mut new = outcome.faults.iter().filter(|fault| tolerated::name(fault).is_none());
        new.any(|fault| kinds.contains(&fault.kind))
    };
    let small = shrink::shrink(plan, options.shrink, is_red).await;
    println!("seed {}: {} of {} operations are left:", plan.seed, small.operations.len(), plan.operations.len());
    for operation in &small.operations {
        println!("  {}", serde_json::to_string(operation)?);
    }
    // Once more: of a long output often only the end is kept.
    for fault in faults.iter().take(SHOWN) {
        println!("seed {}: {fault}", plan.seed);
    }
    Ok(())
}
