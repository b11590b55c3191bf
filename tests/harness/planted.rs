//! Secrets of a test that are recognised wherever they leak: one for each place that may hold a secret, so that a leak
//! names its place.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;

/// How much of a line is shown, in characters.
const MAX_SHOWN: usize = 1000;

/// The secrets of one test.
#[derive(Default)]
pub struct PlantedSecrets(Mutex<Vec<PlantedSecret>>);

struct PlantedSecret {
    place: String,
    /// Itself, and what else would give it away.
    forms: Vec<String>,
}

impl PlantedSecrets {
    /// A new secret for this place: hexadecimal digits, so that it is legal nearly everywhere.
    pub fn at(&self, place: &str) -> String {
        let digits = || format!("{:016x}", RandomState::new().build_hasher().finish());
        let secret = format!("ca7a{}{}", digits(), digits());
        self.given(place, &secret);
        secret
    }

    /// What is secret though it was not made here.
    pub fn given(&self, place: &str, secret: &str) {
        assert!(secret.len() >= 16, "{place}: too short to be recognised");
        let bytes = secret.as_bytes();
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = vec![secret.to_owned(), numbers.join(", "), hex];
        self.0.lock().unwrap().push(PlantedSecret { place: place.to_owned(), forms });
    }

    /// The places whose secrets are in a text.
    pub fn places_in(&self, text: &str) -> Vec<String> {
        let secrets = self.0.lock().unwrap();
        let in_text = |secret: &&PlantedSecret| secret.forms.iter().any(|form| text.contains(form));
        secrets.iter().filter(in_text).map(|secret| secret.place.clone()).collect()
    }

    /// What of them is in a text: for each place, one line that it is in.
    pub fn leaks_in(&self, what: &str, text: &str) -> Vec<String> {
        let shown = |secret: &PlantedSecret| {
            let at = secret.forms.iter().find_map(|form| text.find(form))?;
            let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let line: String = text[begin..].lines().next().unwrap_or_default().chars().take(MAX_SHOWN).collect();
            Some(format!("{what} shows {}: {line}", secret.place))
        };
        self.0.lock().unwrap().iter().filter_map(shown).collect()
    }

    /// Panics where a secret is in a text, with its place and a line that it is in.
    pub fn must_not_be_in(&self, what: &str, text: &str) {
        let leaks = self.leaks_in(what, text);
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    }
}

/// What every process on this machine was started with.
pub fn command_lines() -> String {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let command_lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    command_lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n").collect()
}
