//! A run: a nats-server, a mer and targets of its own, on which a plan is carried out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use domain::Stamp;
use rustix::process::{Pid, Signal, kill_process};
use tests::{Api, Mer, Nats};
use tokio::task::JoinSet;

use crate::checker::check;
use crate::fault::Fault;
use crate::history::{Ask, Entry, History, Line, Url, What, Words};
use crate::operation::{Call, Operation, Post, Said, Start, Trouble};
use crate::plan::{KINDS, Plan, URLS};
use crate::target::Targets;
use crate::tolerated;
use crate::user::User;

const LEASE_SECS: u64 = 3;
/// How long it may take until all is at rest; and how long where nothing but known faults is in the way.
const REST: Duration = Duration::from_secs(40);
const REST_WITH_KNOWN: Duration = Duration::from_secs(7);
const LOOK: Duration = Duration::from_millis(150);
const READY: Duration = Duration::from_secs(40);

/// What is tested.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Tested {
    /// The binary to test
    #[arg(long, hide = true, default_value = "target/release/mer")]
    mer: String,

    /// Break it so: for a build with the feature `failpoints`
    #[arg(long)]
    failpoint: Option<String>,
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) lines: Vec<Line>,
    pub(crate) faults: Vec<Fault>,
    /// What mer has logged, and the second dispatcher.
    pub(crate) logs: Vec<String>,
}

struct World {
    nats: Nats,
    mer: Mer,
    second: Option<Mer>,
    has_second: bool,
    tested: Tested,
    targets: Targets,
    user: Arc<User>,
    history: Arc<History>,
    /// The words in force, as far as is known.
    words: Vec<BTreeMap<String, Words>>,
    /// What ends a trouble, while other things go on.
    troubles: JoinSet<()>,
}

/// Carries out a plan. Everything it has started ends with it.
pub(crate) async fn run(plan: &Plan, tested: &Tested) -> Result<Outcome> {
    let history = Arc::new(History::start());
    let targets = Targets::start(history.clone()).await?;
    let nats = Nats::start();
    let mut mer = tested.mer_on(&nats);
    if let Some(limit) = plan.limit {
        mer = mer.set("MER_EVENTS_MAX_COUNT", limit);
    }
    let mer = mer.start().await;
    let urls = (0..URLS).map(|url| targets.url(url)).collect();
    let user = Arc::new(User::new(mer.api(), history.clone(), urls));
    let (words, troubles, tested) = (vec![BTreeMap::new(); URLS], JoinSet::new(), tested.clone());
    let mut world =
        World { nats, mer, second: None, has_second: false, tested, targets, user, history, words, troubles };
    for operation in &plan.operations {
        world.carry_out(operation).await?;
    }
    world.end().await?;
    let lines = world.history.lines();
    let logs = world.processes().map(Mer::log).collect();
    Ok(Outcome { faults: check(&lines), lines, logs })
}

impl Tested {
    fn mer_on(&self, nats: &Nats) -> Mer {
        let mer = Mer::new(&self.mer).set("MER_NATS_URL", nats.url());
        let mer = mer.set("MER_DELIVERY_TIMEOUT_MS", 5000).set("MER_LEASE_SECS", LEASE_SECS);
        match &self.failpoint {
            Some(failpoint) => mer.set("MER_FAILPOINT", failpoint),
            None => mer,
        }
    }
}

impl World {
    async fn carry_out(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Post(post) => self.user.post(post).await,
            Operation::Batch(posts) => self.user.post_batch(posts).await,
            Operation::Call(url, call) => {
                if let Some(ask) = self.resolve(*url, call).await? {
                    let is_taken = self.user.ask(*url, ask.clone()).await?;
                    self.note(*url, &ask, is_taken);
                }
            }
            Operation::AtOnce(url, one, other) => self.at_once(*url, one, other).await?,
            Operation::Meanwhile(url, call, posts) => {
                if let Some(ask) = self.resolve(*url, call).await? {
                    let post = async {
                        for post in posts {
                            self.user.post(post).await;
                        }
                    };
                    let (is_taken, ()) = tokio::join!(self.user.ask(*url, ask.clone()), post);
                    self.note(*url, &ask, is_taken?);
                }
            }
            Operation::Answer(url, answer, times) => self.targets.answer(*url, *answer, *times),
            Operation::Trouble(trouble) => self.trouble(*trouble).await,
            Operation::Breathe(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Operation::Rest => self.rest().await?,
        }
        Ok(())
    }

    async fn at_once(&mut self, url: Url, one: &Call, other: &Call) -> Result<()> {
        let (Some(one), Some(other)) = (self.resolve(url, one).await?, self.resolve(url, other).await?) else {
            return Ok(());
        };
        // Whether there is a subscription must not depend on which one comes first.
        if self.words[url].is_empty() {
            let is_taken = self.user.ask(url, one.clone()).await?;
            self.note(url, &one, is_taken);
            let is_taken = self.user.ask(url, other.clone()).await?;
            self.note(url, &other, is_taken);
            return Ok(());
        }
        let taken = tokio::try_join!(self.user.ask(url, one.clone()), self.user.ask(url, other.clone()))?;
        self.note(url, &one, taken.0);
        self.note(url, &other, taken.1);
        Ok(())
    }

    /// A call with all that depends on what has happened. `None`: there is nothing to call for.
    async fn resolve(&self, url: Url, call: &Call) -> Result<Option<Ask>> {
        let entries = |entries: &[(String, Said)]| entries.iter().map(|entry| self.entry(url, entry)).collect();
        Ok(Some(match call {
            Call::Register(said) => Ask::Register(entries(said)),
            Call::Unregister(patterns) => Ask::Unregister(patterns.clone()),
            Call::Put(said, delivery) => Ask::Put(entries(said), *delivery),
            Call::PatchEvents(said) => Ask::PatchEvents(entries(said)),
            Call::PatchDelivery(delivery) => Ask::PatchDelivery(*delivery),
            Call::Delete => Ask::Delete,
            Call::Pause => Ask::Pause,
            Call::Resume => Ask::Resume,
            Call::Replay(from, to) => match self.time_of(*from) {
                Some(from) => Ask::Replay(from, to.and_then(|to| self.time_of(to))),
                None => return Ok(None),
            },
            Call::Redrive(()) => {
                let events: Vec<u64> = self.user.letters(url).await?.iter().map(|(_, event)| *event).collect();
                if events.is_empty() {
                    return Ok(None);
                }
                Ask::Redrive(events)
            }
        }))
    }

    fn entry(&self, url: Url, (pattern, said): &(String, Said)) -> Entry {
        let now = Stamp::now().as_micros();
        let same = self.words[url].get(pattern).filter(|_| said.is_same);
        let mut words = same.cloned().unwrap_or_else(|| Words {
            transaction: said.transaction.map(|n| format!("t{n}")),
            start: match said.start {
                None => None,
                Some(Start::In(ms)) => Some(now + ms * 1_000),
                Some(Start::Back(back)) => self.time_of(back),
            },
            end: said.end_in_ms.map(|ms| now + ms * 1_000),
            count: said.count,
            requires: said.requires,
            allow_gap: said.allow_gap,
            is_retro: false,
        });
        words.is_retro = words.start.map_or(words.transaction.is_some(), |start| start <= now);
        (pattern.clone(), words)
    }

    /// The time of the event that was so many before the last one.
    fn time_of(&self, back: usize) -> Option<i64> {
        let mut times: Vec<(u64, i64)> = self.history.lines().iter().filter_map(posted).collect();
        times.sort_unstable();
        times.get(times.len().saturating_sub(back + 1)).map(|(_, time)| *time)
    }

    fn note(&mut self, url: Url, ask: &Ask, is_taken: bool) {
        let words = &mut self.words[url];
        match ask {
            _ if !is_taken => {}
            Ask::Register(entries) => words.extend(entries.iter().cloned()),
            Ask::Put(entries, _) | Ask::PatchEvents(entries) => *words = entries.iter().cloned().collect(),
            Ask::Unregister(patterns) => words.retain(|pattern, _| !patterns.contains(pattern)),
            Ask::Delete => words.clear(),
            _ => {}
        }
    }

    async fn trouble(&mut self, trouble: Trouble) {
        self.until_recovered().await;
        self.history.add(What::Disturbed);
        let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
        match trouble {
            Trouble::KillMer(ms) => {
                self.mer.kill();
                pause(ms).await;
                self.mer.launch();
                self.recovers_when_ready();
            }
            Trouble::KillNats(ms) => {
                self.nats.kill();
                pause(ms).await;
                self.nats.restart();
                self.recovers_when_ready();
            }
            Trouble::FreezeMer(ms) => self.freeze(self.mer.id(), ms),
            Trouble::FreezeNats(ms) => self.freeze(self.nats.id(), ms),
            Trouble::SecondBegins => {
                if !self.has_second {
                    let fresh = || self.tested.mer_on(&self.nats).roles("dispatcher");
                    self.second.get_or_insert_with(fresh).launch();
                    self.has_second = true;
                }
                self.history.add(What::Recovered);
            }
            Trouble::SecondEnds => {
                if let Some(second) = self.second.as_mut().filter(|_| std::mem::take(&mut self.has_second)) {
                    second.stop().await;
                }
                self.history.add(What::Recovered);
            }
            Trouble::SecondKilled => match self.second.as_mut().filter(|_| std::mem::take(&mut self.has_second)) {
                Some(second) => {
                    second.kill();
                    let history = self.history.clone();
                    self.troubles.spawn(async move {
                        tokio::time::sleep(Duration::from_secs(LEASE_SECS)).await;
                        history.add(What::Recovered);
                    });
                }
                None => self.history.add(What::Recovered),
            },
            Trouble::FreezeSecond(ms) => match self.second.as_ref().filter(|_| self.has_second) {
                Some(second) => self.freeze(second.id(), ms),
                None => self.history.add(What::Recovered),
            },
        }
    }

    /// SIGSTOP, and SIGCONT after a while; other things go on meanwhile.
    fn freeze(&mut self, process: u32, ms: u64) {
        let history = self.history.clone();
        let send = move |signal| {
            if let Some(process) = Pid::from_raw(process.cast_signed()) {
                let _ = kill_process(process, signal);
            }
        };
        send(Signal::STOP);
        self.troubles.spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            send(Signal::CONT);
            history.add(What::Recovered);
        });
    }

    fn recovers_when_ready(&mut self) {
        let (api, history): (Api, _) = (self.mer.api(), self.history.clone());
        self.troubles.spawn(async move {
            let began = Instant::now();
            while api.status("/readyz").await != Some(200) && began.elapsed() < READY {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            history.add(What::Recovered);
        });
    }

    async fn until_recovered(&mut self) {
        while self.troubles.join_next().await.is_some() {}
    }

    /// Ends all that is in the way, posts a last event of each type, and waits until all is at rest.
    async fn end(&mut self) -> Result<()> {
        self.until_recovered().await;
        self.targets.heal();
        self.rest().await?;
        for url in 0..URLS {
            let status = self.user.status(url).await?;
            if status.is_some_and(|status| matches!(status.state.as_str(), "paused" | "held" | "gone" | "gap")) {
                self.user.ask(url, Ask::Resume).await?;
            }
        }
        for kind in KINDS {
            self.user.post(&Post { kind: kind.to_owned(), transaction: None, has_key: true }).await;
        }
        self.rest().await
    }

    /// Waits until nothing is missing and each status is true, or for as long as that may take; then it is written down.
    async fn rest(&mut self) -> Result<()> {
        self.until_recovered().await;
        self.targets.heal();
        let began = Instant::now();
        loop {
            let found = self.look().await?;
            let mut lines = self.history.lines();
            let at = lines.last().map_or(0, |line| line.at);
            lines.extend(found.iter().map(|what| Line { at, what: what.clone() }));
            let line = lines.len() - 1;
            let faults: Vec<Fault> = check(&lines).into_iter().filter(|fault| fault.line == line).collect();
            let is_known = faults.iter().all(|fault| tolerated::name(fault).is_some());
            let is_over = began.elapsed() > if is_known { REST_WITH_KNOWN } else { REST };
            if (faults.is_empty() && self.targets.is_idle()) || is_over {
                found.into_iter().for_each(|what| self.history.add(what));
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn processes(&self) -> impl Iterator<Item = &Mer> {
        [Some(&self.mer), self.second.as_ref()].into_iter().flatten()
    }

    /// The gaps of a URL that dispatchers have told of: a status shows but the last one, until somebody goes on.
    fn gaps(&self, url: Url) -> Result<Vec<What>> {
        let id = format!("lane.gap id={} ", self.user.id(url)?);
        let mut gaps = Vec::new();
        for log in self.processes().map(Mer::log) {
            for line in log.lines().filter(|line| line.contains(&id)) {
                let number = |name| line.split_whitespace().find_map(|field| field.strip_prefix(name)?.parse().ok());
                if let (Some(from), Some(to)) = (number("from_sequence="), number("to_sequence=")) {
                    gaps.push(What::Gap { url, from, to });
                }
            }
        }
        Ok(gaps)
    }

    async fn look(&self) -> Result<Vec<What>> {
        let mut found = vec![self.user.log().await?];
        let mut statuses = Vec::new();
        for url in 0..URLS {
            let events: Vec<u64> = self.user.letters(url).await?.iter().map(|(_, event)| *event).collect();
            if !events.is_empty() {
                found.push(What::Letters { url, events });
            }
            statuses.push(self.user.status(url).await?);
            found.extend(self.gaps(url)?);
        }
        found.push(What::Rest { statuses });
        Ok(found)
    }
}

fn posted(line: &Line) -> Option<(u64, i64)> {
    match &line.what {
        What::Posted { event, .. } => Some((event.sequence, event.time)),
        _ => None,
    }
}
