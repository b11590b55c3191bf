//! A request's query string, read with every fault named.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use domain::FieldError;
use url::form_urlencoded;

use crate::problem::Problem;

/// Gives each parameter to `take`, which answers what is wrong with its value (for one that it does not know, [`no_such_parameter`]). 422 with every
/// fault, if there are any.
pub fn read(
    query: Option<&str>,
    mut take: impl FnMut(&str, Cow<'_, str>) -> Result<(), String>,
) -> Result<(), Problem> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let faults: Vec<FieldError> =
        pairs.filter_map(|(name, value)| Some(FieldError::parameter(&name, take(&name, value).err()?))).collect();
    if faults.is_empty() { Ok(()) } else { Err(Problem::unacceptable(faults)) }
}

/// What is wrong with a parameter that is not known.
pub fn no_such_parameter() -> Result<(), String> {
    Err("there is no such parameter".to_owned())
}

/// A whole number within bounds.
pub fn whole_number<T: FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    bounds: RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("it must be a whole number from {} to {}", bounds.start(), bounds.end()))
}
