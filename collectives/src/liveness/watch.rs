//! The loop of the liveness thread: sends heartbeats, receives those of other ranks, and detects failures.
//!
//! Rank 0 monitors all ranks including itself; each other rank monitors rank 0.

use super::detector::{PeerView, Symptom, absent, judge};
use super::diagnosis::{Diagnosis, LastReport};
use super::link::{Link, LinkEvent};
use super::protocol::Message;
use super::shutdown::{Shutdown, leave};
use crate::activity::{Activity, ActivitySnapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// After a gap of this length between its own heartbeats, this process was itself stopped, and the state that it holds
/// is outdated.
const GAP: Duration = Duration::from_secs(1);
/// Timeout for the answer of rank 0 to a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for sending the last frames.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// A command of the main thread. If the channel closes, the rank ends without a goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatcherCommand {
    /// All ranks are connected: start to detect failures.
    Arm,
    /// This rank has finished its work.
    Goodbye,
    /// Forward a request to stop, which this rank has received, to rank 0.
    Ask(i32),
    /// On rank 0: all ranks must exit with this code.
    Leave(i32),
}

#[derive(Debug)]
struct Peer {
    link: Option<Link>,
    report: LastReport,
    last_frame: Instant,
    disconnected: bool,
    left: bool,
}

/// The state of the liveness thread of one rank.
pub(super) struct Watcher {
    rank: usize,
    activity: Activity,
    shutdown: Arc<Shutdown>,
    peers: BTreeMap<usize, Peer>,
    sender: mpsc::Sender<LinkEvent>,
    events: mpsc::Receiver<LinkEvent>,
    commands: mpsc::UnboundedReceiver<WatcherCommand>,
    armed: bool,
    /// Whether a verdict is being carried out.
    ended: bool,
    /// When this rank said goodbye.
    leaving: Option<Instant>,
    /// When this loop last ran.
    last_run: Instant,
    /// When a rank was last seen working, or said goodbye.
    last_progress: Instant,
    /// End of the last gap.
    running_since: Instant,
}

impl Watcher {
    /// Rank 0 monitors `1..size`; another rank monitors rank 0.
    pub(super) fn new(
        size: usize,
        activity: Activity,
        shutdown: Arc<Shutdown>,
        commands: mpsc::UnboundedReceiver<WatcherCommand>,
    ) -> Self {
        let (rank, now) = (shutdown.rank, Instant::now());
        let (sender, events) = mpsc::channel(1024);
        let (unknown, _) = Activity::default().now();
        let peer = |rank| {
            let report = LastReport::new(unknown, Duration::ZERO);
            (rank, Peer { link: None, report, last_frame: now, disconnected: false, left: false })
        };
        let peers = if rank == 0 { (1..size).map(peer).collect() } else { BTreeMap::from([peer(0)]) };
        let (armed, ended, leaving, last_run, last_progress, running_since) =
            (false, false, None, now, now, now);
        Self {
            rank,
            activity,
            shutdown,
            peers,
            sender,
            events,
            commands,
            armed,
            ended,
            leaving,
            last_run,
            last_progress,
            running_since,
        }
    }

    /// The channel for events of connections.
    pub(super) fn events(&self) -> mpsc::Sender<LinkEvent> {
        self.sender.clone()
    }

    /// Adds the connection to a peer.
    pub(super) fn join(&mut self, rank: usize, stream: TcpStream) {
        let link = Link::new(stream, rank, self.sender.clone());
        if self.rank == 0 {
            link.send(Message::Welcome);
        }
        if let Some(peer) = self.peers.get_mut(&rank) {
            (peer.link, peer.last_frame) = (Some(link), Instant::now());
        }
    }

    /// Runs until all monitored ranks have said goodbye, or until the main thread closes the command channel.
    pub(super) async fn run(mut self) {
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.done() {
            tokio::select! {
                Some(event) = self.events.recv() => self.on_event(event),
                command = self.commands.recv(), if self.leaving.is_none() => match command {
                    Some(WatcherCommand::Arm) => self.armed = true,
                    Some(WatcherCommand::Goodbye) => self.leave(),
                    Some(WatcherCommand::Ask(code)) => self.send(&Message::Ask(code)),
                    Some(WatcherCommand::Leave(code)) => {
                        // From now on, a closed connection does not count as a death.
                        self.ended = true;
                        self.send(&Message::Leave(code));
                    }
                    None if self.ended => std::future::pending().await,
                    None => return,
                },
                _ = ticks.tick() => self.on_tick(),
            }
            self.check_ranks();
        }
        for peer in self.peers.into_values() {
            if let Some(link) = peer.link {
                link.send(Message::Goodbye);
                link.close(FLUSH_TIMEOUT).await;
            }
        }
    }

    fn on_event(&mut self, event: LinkEvent) {
        self.detect_gap();
        match event {
            LinkEvent::Joined(rank, stream) => {
                if self
                    .peers
                    .get(&rank)
                    .is_some_and(|peer| peer.link.is_none() && !peer.left && !peer.disconnected)
                {
                    self.join(rank, stream);
                } else {
                    tracing::warn!("liveness: rejected a second connection of rank {rank}");
                }
            }
            LinkEvent::Frame(rank, frame) => self.on_frame(rank, frame),
            LinkEvent::Lost(rank, error) => {
                let Some(peer) = self.peers.get_mut(&rank).filter(|peer| !peer.left) else { return };
                peer.disconnected = true;
                tracing::debug!("liveness: the connection to rank {rank} is closed: {error}");
            }
        }
    }

    fn on_frame(&mut self, rank: usize, frame: Message) {
        let Some(peer) = self.peers.get_mut(&rank) else { return };
        peer.last_frame = Instant::now();
        match frame {
            Message::Beat(report) => peer.report = report,
            Message::Verdict(verdict) if self.rank != 0 => self.end(*verdict),
            Message::Goodbye => {
                peer.left = true;
                self.last_progress = Instant::now();
                match (&peer.link, self.leaving) {
                    (Some(link), _) if self.rank == 0 => link.send(Message::Goodbye),
                    (_, None) => {
                        tracing::warn!("liveness: rank {rank} has left, so this rank is no longer monitored");
                    }
                    _ => {}
                }
            }
            Message::Ask(code) if self.rank == 0 => (self.shutdown.options.on_ask)(code),
            Message::Leave(code) if self.rank != 0 => leave(code),
            Message::Hello { .. }
            | Message::Welcome
            | Message::Verdict(_)
            | Message::Ask(_)
            | Message::Leave(_) => {
                tracing::warn!("liveness: unexpected message from rank {rank}: {frame:?}");
            }
        }
    }

    /// Sends a message to all monitored ranks.
    fn send(&self, frame: &Message) {
        let links = self.peers.values().filter_map(|peer| peer.link.as_ref());
        links.for_each(|link| link.send(frame.clone()));
    }

    fn on_tick(&mut self) {
        self.detect_gap();
        let report = self.report();
        // A rank that has left sends no heartbeats, except rank 0, which other ranks still monitor.
        if self.leaving.is_none() || self.rank == 0 {
            let links = self.peers.values().filter(|peer| !peer.left).filter_map(|peer| peer.link.as_ref());
            links.for_each(|link| link.send(Message::Beat(report.clone())));
        }
        if self.leaving.is_none() && !report.waits_for_others && report.exceeds_timeout() {
            let shutdown = self.shutdown.clone();
            // Resolving function names takes longer than the interval between heartbeats.
            let _ = std::thread::Builder::new().spawn(move || shutdown.write_stack(&report));
        }
    }

    /// Resets all timestamps after a gap. Must run before any of them is compared.
    fn detect_gap(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.last_run) > GAP {
            (self.running_since, self.last_progress) = (now, now);
            self.peers.values_mut().for_each(|peer| peer.last_frame = now);
        }
        self.last_run = now;
    }

    /// The report of this rank. Idle time counts from the last gap at the earliest, because a stopped process cannot
    /// make progress.
    fn report(&self) -> LastReport {
        let (moment, idle): (ActivitySnapshot, _) = self.activity.now();
        LastReport::new(moment, idle.min(self.running_since.elapsed()))
    }

    fn leave(&mut self) {
        self.leaving = Some(Instant::now());
        self.last_progress = Instant::now();
        if self.rank != 0 {
            self.send(&Message::Goodbye);
        }
    }

    /// Whether this rank has left, and all ranks that it must wait for have left too.
    fn done(&self) -> bool {
        let Some(since) = self.leaving.filter(|_| !self.ended) else { return false };
        let mut remaining =
            self.peers.values().filter(|peer| peer.link.is_some() && !peer.left && !peer.disconnected);
        let limit = if self.rank == 0 { self.shutdown.options.farewell } else { GOODBYE_TIMEOUT };
        let late = since.elapsed() > limit;
        if late && self.rank == 0 && remaining.clone().count() > 0 {
            tracing::warn!(
                "liveness: some ranks still run {} s after rank 0 and are no longer monitored",
                limit.as_secs_f64()
            );
        }
        late || remaining.next().is_none()
    }

    /// Checks the ranks that have not left.
    fn check_ranks(&mut self) {
        if !self.armed || self.ended || (self.leaving.is_some() && self.rank != 0) {
            return;
        }
        self.detect_gap();
        let own = self.report();
        let views = self.views(&own);
        let works = views.iter().any(|view| !view.report.waits_for_others);
        let found = if self.rank == 0 { judge(&views, self.last_progress.elapsed()) } else { absent(&views) };
        if works {
            self.last_progress = Instant::now();
        }
        let Some(found) = found else { return };
        let report = self.peers.get(&found.rank).map_or(own, |peer| peer.report.clone());
        let Some(verdict) = self.verdict(found, report) else { return };
        if self.rank == 0 {
            self.send(&Message::Verdict(verdict.clone().into()));
        }
        self.end(verdict);
    }

    fn views<'a>(&'a self, own: &'a LastReport) -> Vec<PeerView<'a>> {
        let silence = self.shutdown.options.silence;
        let present = self.peers.iter().filter(|(_, peer)| !peer.left);
        let mut views: Vec<_> = present
            .map(|(&rank, peer)| {
                let silent_for = peer.last_frame.elapsed();
                PeerView { rank, report: &peer.report, silent_for, silence, disconnected: peer.disconnected }
            })
            .collect();
        if self.rank == 0 && self.leaving.is_none() {
            views.insert(
                0,
                PeerView { rank: 0, report: own, silent_for: Duration::ZERO, silence, disconnected: false },
            );
        }
        views
    }

    fn verdict(&self, found: Symptom, report: LastReport) -> Option<Diagnosis> {
        let Symptom { rank, kind, since, reason } = found;
        let identity = self.shutdown.identities.get(rank)?;
        let (host, pid) = (identity.host.clone(), identity.pid);
        Some(Diagnosis { rank, host, pid, kind, report, since, reason })
    }

    fn end(&mut self, verdict: Diagnosis) {
        if !self.ended {
            self.ended = true;
            self.shutdown.begin(verdict);
        }
    }
}
