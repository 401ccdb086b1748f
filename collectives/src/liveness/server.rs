//! The listening sockets of rank 0. A client must pass the handshake within a few seconds, or it is rejected.

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

/// Timeout for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of concurrent handshakes: a constant, plus a number per rank.
const HANDSHAKES: usize = 64;
const HANDSHAKES_PER_RANK: usize = 8;
/// Maximum number of rejected connections that are logged.
const MAX_REJECTIONS: u32 = 20;

/// The addresses of rank 0 and the token for the handshake.
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

/// Addresses of this host, without link-local IPv6 addresses: they need the name of an interface, which differs between
/// hosts.
fn interfaces() -> io::Result<Vec<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let usable = |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    Ok(addresses.filter(usable).collect())
}

/// Accepts the connections of ranks.
#[derive(Debug, Clone)]
pub(super) struct Server {
    token: Token,
    size: usize,
    events: mpsc::Sender<LinkEvent>,
    handshakes: Arc<Semaphore>,
    rejections: Arc<AtomicU32>,
}

impl Server {
    pub(super) fn new(token: Token, size: usize, events: mpsc::Sender<LinkEvent>) -> Self {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES + HANDSHAKES_PER_RANK * size));
        Self { token, size, events, handshakes, rejections: Arc::default() }
    }

    pub(super) async fn accept(self, listener: TcpListener) {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually too many open files, which is temporary.
                    self.log_rejection(&"a connection", &error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
                self.log_rejection(&from, &"too many concurrent handshakes");
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                match timeout(HANDSHAKE_TIMEOUT, server.admit(stream)).await {
                    Ok(Ok((rank, stream))) => {
                        drop(server.events.send(LinkEvent::Joined(rank, stream)).await);
                    }
                    Ok(Err(error)) if is_closed_by_client(&error) => {
                        tracing::debug!("liveness: {from} left: {error}");
                    }
                    Ok(Err(error)) => server.log_rejection(&from, &error),
                    Err(_) => server.log_rejection(
                        &from,
                        &format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()),
                    ),
                }
                drop(permit);
            });
        }
    }

    /// Performs the handshake, and returns the rank of the client.
    async fn admit(&self, mut stream: TcpStream) -> io::Result<(usize, TcpStream)> {
        stream.set_nodelay(true)?;
        self.token.ask(&mut stream).await?;
        match read_frame(&mut stream).await {
            Ok(Message::Hello { rank }) if (1..self.size).contains(&rank) => Ok((rank, stream)),
            Ok(frame) => Err(io::Error::other(format!("expected a rank of this job, found {frame:?}"))),
            Err(error) => Err(error),
        }
    }

    fn log_rejection(&self, from: &dyn std::fmt::Display, why: &dyn std::fmt::Display) {
        match self.rejections.fetch_add(1, Ordering::Relaxed) {
            MAX_REJECTIONS.. => {}
            count => {
                let last =
                    if count + 1 == MAX_REJECTIONS { "; further rejections are not logged" } else { "" };
                tracing::warn!("liveness: rejected {from}: {why}{last}");
            }
        }
    }
}

/// Whether the client has closed the connection: a rank that reaches several addresses keeps only one connection.
fn is_closed_by_client(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
