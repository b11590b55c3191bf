//! The error of the crate: JetStream does not do something for now.

/// NATS is out of reach, or JetStream answers with an error. The same request may work later.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Unavailable {
    what: &'static str,
    why: String,
}

impl Unavailable {
    /// `what` could not be done for now, because of `why`.
    pub fn new(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self { what, why: why.to_string() }
    }
}

/// Turns an error of the client library into [`Unavailable`], saying what could not be done.
pub(crate) trait During<T> {
    /// `what` was being done.
    fn during(self, what: &'static str) -> Result<T, Unavailable>;
}

impl<T, E: std::error::Error> During<T> for Result<T, E> {
    fn during(self, what: &'static str) -> Result<T, Unavailable> {
        self.map_err(|error| {
            let mut why = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                let inner_text = inner.to_string();
                if !why.contains(&inner_text) {
                    why = format!("{why}: {inner_text}");
                }
                source = inner.source();
            }
            Unavailable::new(what, why)
        })
    }
}
