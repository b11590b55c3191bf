//! A name for the consumer that a lane's position belongs to.

use serde::{Deserialize, Serialize};

/// How an epoch is written that no consumer belongs to.
const WITHOUT_CONSUMER: &str = "tail-";

/// Which consumer a position belongs to. Stored as one string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Epoch {
    /// The lane's own consumer that carries this name.
    Consumer(String),
    /// None: the lane reads with others, and the position log knows how far it has come.
    WithoutConsumer(String),
}

impl Epoch {
    /// Whether a consumer belongs to it: its acknowledgement floor then counts.
    pub fn has_consumer(&self) -> bool {
        matches!(self, Self::Consumer(_))
    }

    /// The same kind of epoch with another name.
    pub fn renamed(&self, name: String) -> Self {
        match self {
            Self::Consumer(_) => Self::Consumer(name),
            Self::WithoutConsumer(_) => Self::WithoutConsumer(name),
        }
    }
}

impl From<String> for Epoch {
    fn from(written: String) -> Self {
        match written.strip_prefix(WITHOUT_CONSUMER) {
            Some(name) => Self::WithoutConsumer(name.to_owned()),
            None => Self::Consumer(written),
        }
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.to_string()
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Consumer(name) => f.write_str(name),
            Self::WithoutConsumer(name) => write!(f, "{WITHOUT_CONSUMER}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for (written, epoch) in [
            ("\"018f\"", Epoch::Consumer("018f".into())),
            ("\"tail-018f\"", Epoch::WithoutConsumer("018f".into())),
            ("\"tail-\"", Epoch::WithoutConsumer(String::new())),
        ] {
            assert_eq!(serde_json::from_str::<Epoch>(written).unwrap(), epoch);
            assert_eq!(serde_json::to_string(&epoch).unwrap(), written);
        }
        assert_eq!(Epoch::Consumer("a".into()).renamed("b".into()), Epoch::Consumer("b".into()));
    }
}
