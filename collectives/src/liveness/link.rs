//! A connection whose other side is proven to be a rank of this job.

use super::protocol::{Message, read_frame, write_frame};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Frames that may wait for a slow peer; more are dropped, since each heartbeat replaces the one before.
const WAITING: usize = 64;

/// What happens on connections.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A rank has named itself.
    Joined(usize, TcpStream),
    /// A frame of a rank.
    Frame(usize, Message),
    /// A rank's connection is gone.
    Lost(usize, io::Error),
}

/// The sending side of a connection. Frames that arrive become events.
#[derive(Debug)]
pub(super) struct Link {
    outbox: mpsc::Sender<Message>,
    writer: JoinHandle<()>,
}

impl Link {
    pub(super) fn new(stream: TcpStream, rank: usize, events: mpsc::Sender<LinkEvent>) -> Self {
        let (outbox, waiting) = mpsc::channel(WAITING);
        let (from, to) = stream.into_split();
        tokio::spawn(read(from, rank, events));
        Self { outbox, writer: tokio::spawn(write(to, waiting)) }
    }

    /// Sends without waiting. What a closed or choked connection does not take is lost: its reader will tell.
    pub(super) fn send(&self, frame: Message) {
        let _ = self.outbox.try_send(frame);
    }

    /// Sends what waits and closes.
    pub(super) async fn close(self, limit: Duration) {
        drop(self.outbox);
        let _ = tokio::time::timeout(limit, self.writer).await;
    }
}

async fn read(mut from: OwnedReadHalf, rank: usize, events: mpsc::Sender<LinkEvent>) {
    loop {
        let (event, last) = match read_frame(&mut from).await {
            Ok(frame) => (LinkEvent::Frame(rank, frame), false),
            Err(error) => (LinkEvent::Lost(rank, error), true),
        };
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut waiting: mpsc::Receiver<Message>) {
    while let Some(frame) = waiting.recv().await {
        if write_frame(&mut to, &frame).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
