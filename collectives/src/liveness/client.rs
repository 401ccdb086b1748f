//! Connects the other ranks to rank 0.

use super::protocol::{Message, read_frame, write_frame};
use super::server::Endpoint;
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Timeout per address: if a firewall drops the packets, the address never answers.
const ATTEMPT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// Tries all addresses concurrently, and repeats until one reaches rank 0 or the timeout expires.
pub(super) async fn connect(endpoint: &Endpoint, rank: usize, limit: Duration) -> io::Result<TcpStream> {
    let start = Instant::now();
    let mut stream = loop {
        match timeout(ATTEMPT, reach(endpoint)).await.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() >= limit => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    };
    // After the rank has identified itself, a closed connection means death: no further attempt from here on.
    write_frame(&mut stream, &Message::Hello { rank }).await?;
    match timeout(limit, read_frame(&mut stream)).await?? {
        Message::Welcome => Ok(stream),
        other => Err(io::Error::other(format!("expected a welcome from rank 0, found {other:?}"))),
    }
}

/// The first connection whose peer proves the token.
async fn reach(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for &address in &endpoint.addresses {
        attempts.spawn(attempt(endpoint.clone(), address));
    }
    attempts.spawn(attempt(endpoint.clone(), (endpoint.host.clone(), endpoint.port)));
    let mut last = io::Error::other("rank 0 has no address");
    while let Some(result) = attempts.join_next().await {
        match result {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(panicked) => last = panicked.into(),
        }
    }
    Err(last)
}

async fn attempt(endpoint: Endpoint, address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    endpoint.token.answer(&mut stream).await?;
    Ok(stream)
}
