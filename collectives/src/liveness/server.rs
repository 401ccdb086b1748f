//! Rank 0's port: who knocks has to prove the token within a short time, or is turned away.

use super::handshake::Token;
use super::link::LinkEvent;
use super::protocol::{Message, read_frame};
use nix::ifaddrs::getifaddrs;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// How long a connection may take to prove itself.
const PROOF: Duration = Duration::from_secs(3);
/// Connections that may be proving themselves at a time, beside several for each rank.
const UNPROVEN: usize = 64;
const UNPROVEN_PER_RANK: usize = 8;
/// Strangers that are worth a line in the log.
const COMPLAINTS: u32 = 20;

/// Where rank 0 is to be found, and the secret to be let in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) token: Token,
}

/// Listens on free ports of all interfaces.
pub(super) fn listen(host: &str) -> io::Result<(Vec<StdListener>, Endpoint)> {
    let v4 = StdListener::bind((Ipv4Addr::UNSPECIFIED, 0));
    let v6 = StdListener::bind((Ipv6Addr::UNSPECIFIED, 0));
    let listeners: Vec<_> = match (v4, v6) {
        (Err(error), Err(_)) => return Err(error),
        (v4, v6) => v4.into_iter().chain(v6).collect(),
    };
    let interfaces = interfaces()?;
    let mut endpoint =
        Endpoint { host: host.to_owned(), port: 0, addresses: Vec::new(), token: Token::random() };
    for listener in &listeners {
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        let reachable = interfaces.iter().filter(|address| address.is_ipv4() == bound.is_ipv4());
        endpoint.addresses.extend(reachable.map(|&address| SocketAddr::new(address, bound.port())));
        if endpoint.port == 0 {
            endpoint.port = bound.port();
        }
    }
    Ok((listeners, endpoint))
}

/// Addresses of this host. Those of one link only are of no use without its name, which differs between hosts.
fn interfaces() -> io::Result<Vec<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let usable = |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    Ok(addresses.filter(usable).collect())
}

/// Lets ranks in, for as long as it runs.
#[derive(Debug, Clone)]
pub(super) struct Server {
    token: Token,
    size: usize,
    events: mpsc::Sender<LinkEvent>,
    unproven: Arc<Semaphore>,
    complaints: Arc<AtomicU32>,
}

impl Server {
    pub(super) fn new(token: Token, size: usize, events: mpsc::Sender<LinkEvent>) -> Self {
        let unproven = Arc::new(Semaphore::new(UNPROVEN + UNPROVEN_PER_RANK * size));
        Self { token, size, events, unproven, complaints: Arc::default() }
    }

    pub(super) async fn accept(self, listener: TcpListener) {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly too many open files: that passes, or every rank is already connected.
                    self.complain(&"a connection", &error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = self.unproven.clone().try_acquire_owned() else {
                self.complain(&from, &"too many connections that prove nothing");
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                match timeout(PROOF, server.admit(stream)).await {
                    Ok(Ok((rank, stream))) => {
                        drop(server.events.send(LinkEvent::Joined(rank, stream)).await);
                    }
                    Ok(Err(error)) if is_departure(&error) => {
                        tracing::debug!("liveness: {from} left: {error}");
                    }
                    Ok(Err(error)) => server.complain(&from, &error),
                    Err(_) => server.complain(&from, &format!("no proof within {} s", PROOF.as_secs())),
                }
                drop(permit);
            });
        }
    }

    /// The rank that knocks.
    async fn admit(&self, mut stream: TcpStream) -> io::Result<(usize, TcpStream)> {
        stream.set_nodelay(true)?;
        self.token.ask(&mut stream).await?;
        match read_frame(&mut stream).await {
            Ok(Message::Hello { rank }) if (1..self.size).contains(&rank) => Ok((rank, stream)),
            Ok(frame) => Err(io::Error::other(format!("expected a rank of this job, found {frame:?}"))),
            Err(error) => Err(error),
        }
    }

    fn complain(&self, from: &dyn std::fmt::Display, why: &dyn std::fmt::Display) {
        match self.complaints.fetch_add(1, Ordering::Relaxed) {
            COMPLAINTS.. => {}
            count => {
                let last = if count + 1 == COMPLAINTS { "; further ones are not logged" } else { "" };
                tracing::warn!("liveness: turned away {from}: {why}{last}");
            }
        }
    }
}

/// The other side closed: a rank that reached us at several addresses keeps one connection.
fn is_departure(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
