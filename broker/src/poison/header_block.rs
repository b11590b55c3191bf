//! The client library's rules for a message's headers, as they stand in a stream: pure. `upstream` holds them against the
//! library itself.

use std::str::FromStr;

use async_nats::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const VERSION: &str = "NATS/1.0";

/// The headers. `None` where async-nats (0.51, `Connection::try_read_op`) ends its connection on them, or panics: on a
/// carriage return within a value.
pub(crate) fn parse(block: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    if block.is_empty() {
        return Some(headers);
    }
    let mut lines = std::str::from_utf8(block).ok()?.lines().peekable();
    let status = lines.next()?.strip_prefix(VERSION)?.trim();
    let status = status.split_once(' ').map_or(status, |(status, _)| status.trim());
    if !status.is_empty() {
        StatusCode::from_str(status).ok()?;
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        headers.append(HeaderName::from_str(name).ok()?, HeaderValue::from_str(value.trim_end()).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Headers on which the library ends its connection.
    pub(in crate::poison) const REFUSED: [&[u8]; 8] = [
        b"NATS/1.0\r\nx: \xe9\r\n\r\n",
        b"NATS/1.0\r\n\xe9: x\r\n\r\n",
        "NATS/1.0\r\né: x\r\n\r\n".as_bytes(),
        b"NATS/1.0\r\na b: x\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0 x\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"\r\n",
    ];

    #[test]
    fn what_the_client_library_reads_is_read_as_it_does() {
        let headers = parse("NATS/1.0\r\na: 1 \r\nA:é\r\na: 2\r\nlong: x\r\n  y\r\n\r\n".as_bytes()).unwrap();
        let all = |name: &str| headers.get_all(name).map(|value| value.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (all("a"), all("A"), all("long")),
            (vec!["1".into(), "2".into()], vec!["é".into()], vec!["x  y".into()])
        );
        for empty in ["", "NATS/1.0\r\n\r\n", "NATS/1.0 503\r\n\r\n", "NATS/1.0 503 No Responders\r\n\r\n"] {
            assert!(parse(empty.as_bytes()).unwrap().is_empty(), "{empty}");
        }
    }

    #[test]
    fn what_the_client_library_refuses_is_refused() {
        for block in REFUSED.into_iter().chain([b"NATS/1.0\r\nx: a\rb\r\n\r\n".as_slice()]) {
            assert!(parse(block).is_none(), "{}", block.escape_ascii());
        }
    }
}
