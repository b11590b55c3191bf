//! A request's query string, read with every fault named.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use domain::FieldError;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::problem::Problem;

/// Gives each parameter to `take`, which answers what is wrong with its value (for one that it does not know, [`no_such_parameter`]). 422 with every
/// fault, if there are any.
pub fn read(
    query: Option<&str>,
    mut take: impl FnMut(&str, Cow<'_, str>) -> Result<(), String>,
) -> Result<(), Problem> {
    let written = query.unwrap_or_default();
    let pairs = written.split('&').filter(|pair| !pair.is_empty()).zip(form_urlencoded::parse(written.as_bytes()));
    let fault_of = |(as_written, (name, value)): (&str, (Cow<'_, str>, Cow<'_, str>))| {
        // Read with U+FFFD in the place of what is no UTF-8, two values would become one.
        let taken = match percent_decode_str(as_written).decode_utf8() {
            Ok(_) => take(&name, value),
            Err(_) => Err("it is not UTF-8 once its percent-encoding is decoded".to_owned()),
        };
        Some(FieldError::parameter(&name, taken.err()?))
    };
    let faults: Vec<FieldError> = pairs.filter_map(fault_of).collect();
    if faults.is_empty() { Ok(()) } else { Err(Problem::unacceptable_question(faults)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_does_not_decode_to_utf_8_is_refused_and_the_others_are_read() {
        let mut taken = Vec::new();
        let read = read(Some("a=caf%C3%A9&&b=caf%E9&%FF=1&c=x+y&d"), |name, value| {
            taken.push(format!("{name}={value}"));
            Ok(())
        });
        assert_eq!(read.unwrap_err().errors().len(), 2);
        assert_eq!(taken, ["a=café", "c=x y", "d="]);
    }
}
