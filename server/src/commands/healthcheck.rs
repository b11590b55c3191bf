//! `mer healthcheck`: whether the mer that listens here is well, told by the exit code; for images without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Args)]
pub(crate) struct Healthcheck {
    /// Where it listens
    #[arg(long, env = "MER_LISTEN", default_value = "127.0.0.1:8888")]
    listen: SocketAddr,

    /// Ask whether it is alive (/healthz), not whether it can do its work (/readyz)
    #[arg(long)]
    live: bool,
}

/// Succeeds where mer says that it is well.
pub(crate) async fn run(check: &Healthcheck) -> anyhow::Result<()> {
    let path = if check.live { "healthz" } else { "readyz" };
    let url = format!("http://{}/{path}", reachable(check.listen));
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().context("making the HTTP client")?;
    let response = client.get(&url).send().await.with_context(|| format!("asking {url}"))?;
    if !response.status().is_success() {
        bail!("{url} answered {}", response.status());
    }
    Ok(())
}

/// An address at which what listens there is reached from the same machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listen, asked) in [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:1", "[::1]:1"), ("10.0.0.1:2", "10.0.0.1:2")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
