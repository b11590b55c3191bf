//! The benchmark: mer beside the limits of its parts, measured in the same run. `./tests/bench` builds and runs it.
//!
//! - [`rows`]: what is measured; [`mod@bench`]: what every row has; [`house`]: a nats-server and a mer of a row's own.
//! - [`generator`] posts, and [`target`] takes, with [`arrivals`] as its account; [`request`] is what is posted.
//! - [`limits`]: NATS without mer. HTTP without mer is the generator straight to the target.
//! - [`measure`]: figures, limits and aims; [`table`] shows them; [`machine`] reads `/proc`; [`clock`] is one for all.
//!
//! A figure that misses its aim is shown as such. An event that is missing, phantom or out of order fails the run.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "counts are far below 2^52")]
#![allow(clippy::disallowed_methods, reason = "it talks to mer and to itself only")]

mod arrivals;
mod bench;
mod clock;
mod generator;
mod house;
mod limits;
mod machine;
mod measure;
mod request;
mod rows;
mod table;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::machine::Processors;
use crate::target::Target;

/// How often what is shown on a terminal is renewed.
const TICK: Duration = Duration::from_millis(200);

/// Measure mer beside the limits of its parts
#[derive(Parser)]
#[command(name = "tests/bench")]
struct Options {
    /// Be done in three minutes: shorter measurements, smaller logs, no 10,000 URLs
    #[arg(long)]
    quick: bool,

    /// Measure these rows only
    #[arg(long, value_delimiter = ',', value_name = "ROW", value_parser = names())]
    only: Vec<String>,

    /// Write everything to a file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Name the rows, and do nothing else
    #[arg(long)]
    list: bool,

    /// The binary to measure
    #[arg(long, hide = true, default_value = "target/release/mer")]
    mer: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if options.list {
        rows::ALL.iter().for_each(|(name, what)| println!("{name:<18}{what}"));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen: Vec<&str> = rows::ALL.iter().map(|(name, _)| *name).filter(|name| is_chosen(&options, name)).collect();
    let began = Instant::now();
    let bench = Bench {
        target: Target::start()?,
        mer: options.mer.clone(),
        is_quick: options.quick,
        progress: progress(chosen.len() as u64)?,
    };
    let (mut figures, mut failures, mut told) = (Vec::new(), Vec::new(), Vec::<Value>::new());
    let mut stolen = Vec::new();
    for name in chosen {
        bench.progress.set_prefix(name.to_owned());
        let (since, processors) = (Instant::now(), Processors::now()?);
        let row = rows::run(name, &bench).await;
        let failure = row.as_ref().err().map(|error| format!("{error:#}"));
        let measured = row.unwrap_or_default();
        let part_stolen = Processors::now()?.stolen_since(processors);
        stolen.push(format!("{name} {:.1} %", part_stolen * 100.0));
        told.push(json!({
            "row": name,
            "took_secs": since.elapsed().as_secs_f64(),
            "stolen": part_stolen,
            "figures": measured.iter().map(measure::Figure::json).collect::<Vec<_>>(),
            "failure": failure,
        }));
        figures.extend(measured);
        failures.extend(failure.map(|failure| format!("{name} FAILED: {failure}")));
        bench.progress.inc(1);
    }
    bench.progress.finish_and_clear();
    let (machine, took) = (machine::description(), began.elapsed().as_secs_f64());
    println!("{}\n", table::table(&figures));
    println!("processor time that other machines took: {}\n", stolen.join(", "));
    println!("{} in {took:.0} s on {machine}", if options.quick { "quick run" } else { "full run" });
    if let Some(path) = &options.json {
        let all = json!({"quick": options.quick, "took_secs": took, "machine": machine, "rows": told});
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(rows::ALL.map(|(name, _)| name))
}

fn is_chosen(options: &Options, name: &str) -> bool {
    options.only.is_empty() || options.only.iter().any(|chosen| chosen == name)
}

fn progress(rows: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} rows, {elapsed} · {prefix}: {msg}")?;
    let progress = ProgressBar::new(rows).with_style(style);
    progress.enable_steady_tick(TICK);
    Ok(progress)
}
