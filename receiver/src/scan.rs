//! What a request wants of the log, and reading on from a place in it.

use broker::Unavailable;
use broker::event_log::{End, EventLog};
use domain::event::MAX_SEQUENCE;
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Event, Stamp, TypePattern};
use web::{Problem, query};

/// The most events of a page.
const MAX_LIMIT: usize = 1000;
/// How many events are read from the log at a time.
const READ_AT_A_TIME: usize = 1000;

/// Which events a request wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Query {
    pattern: Option<TypePattern>,
    pub(crate) from: Option<Stamp>,
    to: Option<Stamp>,
    pub(crate) transaction_id: Option<String>,
    pub(crate) after_sequence: Option<u64>,
    pub(crate) limit: Option<usize>,
}

/// Reads on from a place in the log.
pub(crate) struct Scan {
    log: EventLog,
    pub(crate) query: Query,
    pub(crate) next: u64,
    pub(crate) is_over: bool,
}

impl Scan {
    pub(crate) async fn start(log: EventLog, query: Query) -> Result<Self, Unavailable> {
        let after = query.after_sequence.unwrap_or(0);
        let mut scan = Self { next: after.saturating_add(1), is_over: false, log, query };
        if let Some(id) = &scan.query.transaction_id {
            scan.next = scan.next.max(scan.log.beginning_of(id).await?);
        }
        if let Some(from) = scan.query.from {
            let moment = from.plus_micros(-CLOCK_SKEW_MARGIN_MICROS);
            let mut first = scan.log.first_sequence_from(moment).await?;
            let mut behind_the_end = 0;
            if first.is_none() {
                // A tail goes on behind the end. What came in before the end was looked up is found by looking again.
                behind_the_end = scan.log.last_sequence().await? + 1;
                first = scan.log.first_sequence_from(moment).await?;
                scan.is_over = first.is_none();
            }
            scan.next = scan.next.max(first.unwrap_or(behind_the_end));
        }
        Ok(scan)
    }

    /// The next events that the request wants; none does not mean that it is over.
    pub(crate) async fn read(&mut self) -> Result<Vec<Event>, Unavailable> {
        let page = self.log.read(self.next, self.query.pattern.as_ref(), READ_AT_A_TIME).await?;
        self.is_over = page.end == End::OfLog;
        self.next = match (page.end, page.events.last()) {
            (End::Before(next), _) => next,
            (End::OfLog, Some(last)) => last.sequence + 1,
            (End::OfLog, None) => self.next,
        };
        Ok(page.events.into_iter().filter(|event| self.query.wants(event)).collect())
    }
}

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        query::read(text, |name, value| {
            let moment = || Stamp::parse(&value).map_err(|error| error.to_string());
            match name {
                "type" => parsed.pattern = Some(TypePattern::parse(&value).map_err(|error| error.to_string())?),
                "from" => parsed.from = Some(moment()?),
                "to" => parsed.to = Some(moment()?),
                "transaction_id" => parsed.transaction_id = Some(value.into_owned()),
                "after_sequence" => parsed.after_sequence = Some(query::whole_number(&value, 0..=MAX_SEQUENCE)?),
                "limit" => parsed.limit = Some(query::whole_number(&value, 1..=MAX_LIMIT)?),
                _ => query::no_such_parameter()?,
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    fn wants(&self, event: &Event) -> bool {
        self.from.is_none_or(|from| event.time >= from)
            && self.to.is_none_or(|to| event.time <= to)
            && self.transaction_id.as_ref().is_none_or(|id| *id == event.transaction_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_every_fault_is_named() {
        let text = "type=order.*&from=2026-01-31T09:30:00Z&transaction_id=a%20b&after_sequence=7&limit=5";
        let query = Query::parse(Some(text)).unwrap();
        assert_eq!(query.transaction_id.as_deref(), Some("a b"));
        assert_eq!((query.after_sequence, query.limit), (Some(7), Some(5)));
        let bad = "type=a..b&from=x&to=y&after_sequence=-1&limit=1001&nonsense=1";
        assert_eq!(Query::parse(Some(bad)).unwrap_err().errors().len(), 6);
    }
}
