//! A TCP connection whose receipts can be sent at once.
//!
//! A target that writes the head of its answer and then the body, as Python's `http.server` does, has its kernel keep the body
//! back until the head is acknowledged (RFC 896), and our kernel acknowledges late, for the next request might do it
//! (RFC 1122, 4.2.3.2): 40 ms a delivery. So who waits for a body says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Says that what has come is to be acknowledged at once: when the wire is read the next time, and nothing more is there.
#[derive(Clone, Default)]
pub(super) struct Haste(Arc<AtomicBool>);

/// TCP.
pub(super) struct Wire {
    tcp: TcpStream,
    haste: Haste,
}

impl Haste {
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Wire {
    pub(super) fn over(tcp: TcpStream, haste: Haste) -> Self {
        Self { tcp, haste }
    }

    #[cfg(target_os = "linux")]
    fn acknowledge(&self) {
        // Where it fails, what has come is acknowledged as late as ever.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.tcp, true);
    }

    #[cfg(not(target_os = "linux"))]
    fn acknowledge(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if read.is_pending() && self.haste.0.load(Ordering::Relaxed) {
            self.haste.0.store(false, Ordering::Relaxed);
            self.acknowledge();
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
