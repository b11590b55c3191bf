//! The status of an answer whose head cannot be read.
//!
//! The target has decided when its status line is there. A head behind it that breaks HTTP's rules, or is larger than is read,
//! takes nothing from that: what stands in it is lost, and the connection is not used again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As long as `HTTP/1.1 200` and what ends the number.
const STATUS_LINE: usize = 13;

/// That nothing of the answer to the last request has come.
const NOTHING_YET: u16 = 0;
/// That something has come, and no final status.
const NO_STATUS: u16 = 1;

/// The final status that the answer to the last request began with.
#[derive(Clone, Default)]
pub(super) struct Status(Arc<AtomicU16>);

/// What is read and written, and looked at meanwhile.
pub(super) struct Overheard<S> {
    stream: S,
    status: Status,
    beginning: [u8; STATUS_LINE],
    length: usize,
}

impl Status {
    pub(super) fn get(&self) -> Option<u16> {
        Some(self.0.load(Ordering::Relaxed)).filter(|status| *status > NO_STATUS)
    }

    /// A request goes out: what comes from now on is its answer.
    pub(super) fn forget(&self) {
        self.0.store(NOTHING_YET, Ordering::Relaxed);
    }
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S, status: Status) -> Self {
        Self { stream, status, beginning: [0; STATUS_LINE], length: 0 }
    }

    fn hears(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.status.0.load(Ordering::Relaxed) == NOTHING_YET {
            self.length = 0;
        }
        let new = bytes.len().min(STATUS_LINE - self.length);
        if new == 0 {
            return;
        }
        self.beginning[self.length..self.length + new].copy_from_slice(&bytes[..new]);
        self.length += new;
        let status =
            Some(self.length).filter(|length| *length == STATUS_LINE).and_then(|_| final_status(&self.beginning));
        self.status.0.store(status.unwrap_or(NO_STATUS), Ordering::Relaxed);
    }
}

/// The status that these bytes begin with. One of the hundreds says that another one comes.
fn final_status(beginning: &[u8; STATUS_LINE]) -> Option<u16> {
    let (version, rest) = beginning.split_at(9);
    let (digits, end) = rest.split_at(3);
    let is_line = version.starts_with(b"HTTP/1.") && version[8] == b' ' && matches!(end[0], b' ' | b'\r' | b'\n');
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (is_line && digits.iter().all(u8::is_ascii_digit) && status >= 200).then_some(status)
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.hears(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_known_by_its_beginning() {
        for (line, status) in [
            (b"HTTP/1.1 200 O", Some(200)),
            (b"HTTP/1.0 503\r\n", Some(503)),
            (b"HTTP/1.1 204\nx", Some(204)),
            (b"HTTP/1.1 103 E", None),
            (b"HTTP/1.1 2000 ", None),
            (b"HTTP/1.1 +20 O", None),
            (b"HTTP/2.0 200 O", None),
            (b"SSH-2.0-OpenSS", None),
        ] {
            let mut overheard = Overheard::new((), Status::default());
            for _ in 0..2 {
                overheard.status.forget();
                assert_eq!(overheard.status.get(), None, "another request");
                for byte in line {
                    overheard.hears(&[*byte]);
                }
                overheard.hears(b"HTTP/1.1 204 in a body");
                assert_eq!(overheard.status.get(), status, "{}", String::from_utf8_lossy(line));
            }
        }
    }
}
