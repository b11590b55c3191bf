//! What goes wrong in a simulated run, and when.

use super::random::Random;

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody answers but replicas.
    Outage,
    /// A replica answers listings with what was when it began.
    Lag,
    /// Requests and answers of a dispatcher get lost; of all, without one.
    Loss { of: Option<usize>, percent: u64 },
    /// Requests come late, up to eight seconds.
    Late { percent: u64 },
    /// Requests come twice, the second time late.
    Doubled { percent: u64 },
    /// A dispatcher cannot list the subscriptions.
    NoListing { of: usize },
}

/// Something that happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// A dispatcher stands still for so long.
    Stall {
        of: usize,
        for_ms: u64,
    },
    /// Its wall clock steps.
    ClockStep {
        of: usize,
        by_ms: i64,
    },
    Kill {
        of: usize,
        is_noticed: bool,
    },
    Leave {
        of: usize,
    },
    /// The same, with a target that hangs.
    LeaveSlowly {
        of: usize,
    },
    Join,
    /// Somebody writes the key of a dispatcher that there is not.
    Junk,
}

/// Which kinds of things go wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Dispatchers come and leave, and nothing goes wrong.
    Fair,
    /// Everything goes wrong.
    Foul,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Schedule {
    pub(super) faults: Vec<(Fault, u64, u64)>,
    pub(super) blows: Vec<(Blow, u64)>,
}

impl Schedule {
    /// What happens between two moments to so many dispatchers.
    pub(super) fn random(random: &mut Random, weather: Weather, from: u64, to: u64, dispatchers: usize) -> Self {
        let mut schedule = Self::default();
        let at = |random: &mut Random| random.between(from, to);
        if weather == Weather::Fair {
            for of in 0..random.between(1, 4) as usize {
                let leave = if random.percent(50) { Blow::Leave { of } } else { Blow::LeaveSlowly { of } };
                schedule.blows.push((leave, at(random)));
                schedule.blows.push((Blow::Join, at(random)));
            }
            return schedule;
        }
        for _ in 0..random.between(0, 4) {
            let of = random.index(dispatchers);
            let percent = random.between(5, 60);
            let fault = match random.between(0, 7) {
                0 => Fault::Outage,
                1 => Fault::Lag,
                2 => Fault::Loss { of: Some(of), percent },
                3 => Fault::Loss { of: Some(of), percent: 100 },
                4 => Fault::Loss { of: None, percent },
                5 => Fault::Late { percent },
                6 => Fault::Doubled { percent },
                _ => Fault::NoListing { of },
            };
            let begins = at(random);
            schedule.faults.push((fault, begins, begins + random.between(500, 20_000)));
        }
        let mut may_end: Vec<usize> = (2..dispatchers).collect();
        for _ in 0..random.between(0, 8) {
            let of = random.index(dispatchers);
            let blow = match random.between(0, 9) {
                0..=3 => Blow::Stall { of, for_ms: random.between(100, 20_000) },
                4 => Blow::ClockStep { of, by_ms: random.between(0, 7_200_000) as i64 - 3_600_000 },
                5..=7 => match may_end.pop() {
                    Some(of) if random.percent(70) => Blow::Kill { of, is_noticed: random.percent(30) },
                    Some(of) if random.percent(50) => Blow::Leave { of },
                    Some(of) => Blow::LeaveSlowly { of },
                    None => Blow::Join,
                },
                8 => Blow::Join,
                _ => Blow::Junk,
            };
            schedule.blows.push((blow, at(random)));
        }
        schedule
    }

    /// The faults that there are at a moment.
    pub(super) fn at(&self, now: u64) -> impl Iterator<Item = Fault> {
        self.faults.iter().filter(move |(_, from, to)| (*from..*to).contains(&now)).map(|(fault, ..)| *fault)
    }
}
