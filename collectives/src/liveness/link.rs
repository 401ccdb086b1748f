//! A connection to a rank that has passed the handshake.

use super::protocol::{Message, read_frame, write_frame};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Capacity of the queue for a slow peer. Further frames are dropped, because each heartbeat replaces the previous one.
const QUEUE_CAPACITY: usize = 64;

/// An event on a connection.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A rank has identified itself.
    Joined(usize, TcpStream),
    /// A rank has sent a frame.
    Frame(usize, Message),
    /// The connection to a rank has failed or closed.
    Lost(usize, io::Error),
}

/// The sending half of a connection. A task turns received frames into events.
#[derive(Debug)]
pub(super) struct Link {
    outbox: mpsc::Sender<Message>,
    writer: JoinHandle<()>,
}

impl Link {
    pub(super) fn new(stream: TcpStream, rank: usize, events: mpsc::Sender<LinkEvent>) -> Self {
        let (outbox, queue) = mpsc::channel(QUEUE_CAPACITY);
        let (from, to) = stream.into_split();
        tokio::spawn(read(from, rank, events));
        Self { outbox, writer: tokio::spawn(write(to, queue)) }
    }

    /// Queues a frame without waiting. A closed or congested connection drops it; the reading half reports a failure.
    pub(super) fn send(&self, frame: Message) {
        let _ = self.outbox.try_send(frame);
    }

    /// Sends the queued frames, then closes the connection.
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

async fn write(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Message>) {
    while let Some(frame) = queue.recv().await {
        if write_frame(&mut to, &frame).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
