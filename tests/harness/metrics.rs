//! What `/metrics` says, as Prometheus reads it.

use std::collections::BTreeMap;

use reqwest::Method;

use crate::api::Api;

/// One answer of `/metrics`.
#[derive(Debug)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Api {
    /// What `/metrics` says now.
    pub async fn metrics(&self) -> Metrics {
        let response = self.send(Method::GET, "/metrics", &[], "").await.expect("an answer");
        assert_eq!(response.status(), 200);
        Metrics::parse(&response.text().await.expect("a body"))
    }
}

impl Metrics {
    /// Reads the text format, of either kind. Label values have neither quotes nor commas here.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').expect("an end of the labels");
            let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
                let (name, value) = label.split_once('=').expect("a label");
                (name.to_owned(), value.trim_matches('"').to_owned())
            });
            Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().expect("a number") }
        });
        Self(samples.collect())
    }

    /// The sum of all samples of that name that have these labels; `None` where there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|known| known == value))
        };
        let mut found = self.0.iter().filter(has).map(|sample| sample.value).peekable();
        found.peek().copied().map(|_| found.sum())
    }

    /// The names of all labels that occur.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self.0.iter().flat_map(|sample| sample.labels.keys()).map(String::as_str).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }
}
