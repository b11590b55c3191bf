//! From a host to a connection, and only to addresses that the guard lets through.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use url::Host;

use super::NoAnswer;
use super::overheard::{Overheard, Status};
use super::wire::{Haste, Wire};
use crate::push::resolver::Resolver;

/// How long the addresses before have for themselves until the next one is dialled beside them (RFC 8305, section 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// What bytes go over: TCP, or TLS on it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

/// What a connection is made of.
pub(super) struct Line {
    pub(super) stream: Box<dyn Stream>,
    pub(super) status: Status,
    pub(super) haste: Haste,
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections.
pub(super) struct Dialler {
    pub(super) resolver: Resolver,
    pub(super) tls: Arc<ClientConfig>,
}

/// Where to.
pub(super) struct Endpoint {
    pub(super) host: Host,
    pub(super) port: u16,
    /// Whom the target has to show that it is, where it speaks TLS.
    pub(super) tls: Option<ServerName<'static>>,
}

impl Dialler {
    /// Connects. What was judged is what is dialled: each connection asks for the host's addresses again.
    pub(super) async fn dial(&self, to: &Endpoint) -> Result<Line, NoAnswer> {
        let addresses = self.resolver.addresses(&to.host, to.port).await?;
        let tcp = tcp(&addresses).await?;
        // An event is one small write that waits for its answer.
        tcp.set_nodelay(true)?;
        let (status, haste) = (Status::default(), Haste::default());
        let wire = Wire::over(tcp, haste.clone());
        let stream: Box<dyn Stream> = match &to.tls {
            Some(name) => {
                let tls = TlsConnector::from(self.tls.clone()).connect(name.clone(), wire).await?;
                Box::new(Overheard::new(tls, status.clone()))
            }
            None => Box::new(Overheard::new(wire, status.clone())),
        };
        Ok(Line { stream, status, haste })
    }
}

/// Tries the addresses in their order, the next one as soon as those before have failed or take long.
async fn tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut dialling: FuturesUnordered<_> = rest.next().into_iter().map(TcpStream::connect).collect();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        tokio::select! {
            dialled = dialling.next() => match dialled {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => failure = error,
                None if rest.len() == 0 => return Err(failure),
                None => dialling.extend(rest.next().map(TcpStream::connect)),
            },
            () = sleep(HEAD_START), if rest.len() > 0 => dialling.extend(rest.next().map(TcpStream::connect)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn the_next_address_is_dialled_where_one_fails_or_says_nothing() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = open.local_addr().unwrap();
        // Bound, so that nobody else gets the port, and not listened at.
        let bound = TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refuses = bound.local_addr().unwrap();
        assert_eq!(tcp(&[refuses, refuses, address]).await.unwrap().peer_addr().unwrap(), address);
        assert_eq!(tcp(&[refuses, refuses]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(tcp(&[]).await.is_err());
    }
}
