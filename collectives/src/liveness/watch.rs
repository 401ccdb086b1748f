//! The loop that each rank runs beside its work: tells what this rank does, hears what others do, and judges.
//!
//! Rank 0 watches all ranks, itself among them; each other rank watches rank 0.

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

/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// After a gap of this length between its own heartbeats a rank was itself stopped, and nothing it knows is fresh.
const GAP: Duration = Duration::from_secs(1);
/// How long a rank waits for rank 0 to take note of its goodbye.
const ACKNOWLEDGED: Duration = Duration::from_secs(2);
/// How long the last frames may take to leave.
const FLUSH: Duration = Duration::from_millis(500);

/// What the main thread asks for. A closed channel is an end without a goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatcherCommand {
    /// All ranks are connected: judge from here on.
    Arm,
    /// This rank has done its work.
    Goodbye,
    /// Rank 0 is to hear what this rank was asked.
    Ask(i32),
    /// All ranks are to end with this exit code; rank 0's word.
    Leave(i32),
}

#[derive(Debug)]
struct Peer {
    link: Option<Link>,
    standing: LastReport,
    heard: Instant,
    lost: bool,
    left: bool,
}

/// One rank's side of the channel.
pub(super) struct Watcher {
    rank: usize,
    activity: Activity,
    ending: Arc<Shutdown>,
    peers: BTreeMap<usize, Peer>,
    sender: mpsc::Sender<LinkEvent>,
    events: mpsc::Receiver<LinkEvent>,
    commands: mpsc::UnboundedReceiver<WatcherCommand>,
    armed: bool,
    /// A verdict is being carried out.
    ended: bool,
    /// When this rank said goodbye.
    leaving: Option<Instant>,
    /// When this loop last ran; it does at every heartbeat.
    ran: Instant,
    /// When a rank was last seen working, or leaving.
    moved: Instant,
    /// Since when this process runs without a gap.
    awake: Instant,
}

impl Watcher {
    /// Rank 0 watches `1..size`, another rank watches rank 0.
    pub(super) fn new(
        size: usize,
        activity: Activity,
        ending: Arc<Shutdown>,
        commands: mpsc::UnboundedReceiver<WatcherCommand>,
    ) -> Self {
        let (rank, now) = (ending.rank, Instant::now());
        let (sender, events) = mpsc::channel(1024);
        let (unknown, _) = Activity::default().now();
        let peer = |rank| {
            let standing = LastReport::new(unknown, Duration::ZERO);
            (rank, Peer { link: None, standing, heard: now, lost: false, left: false })
        };
        let peers = if rank == 0 { (1..size).map(peer).collect() } else { BTreeMap::from([peer(0)]) };
        let (armed, ended, leaving, ran, moved, awake) = (false, false, None, now, now, now);
        Self {
            rank,
            activity,
            ending,
            peers,
            sender,
            events,
            commands,
            armed,
            ended,
            leaving,
            ran,
            moved,
            awake,
        }
    }

    /// Where connections report.
    pub(super) fn events(&self) -> mpsc::Sender<LinkEvent> {
        self.sender.clone()
    }

    /// A connection to a peer is there.
    pub(super) fn join(&mut self, rank: usize, stream: TcpStream) {
        let link = Link::new(stream, rank, self.sender.clone());
        if self.rank == 0 {
            link.send(Message::Welcome);
        }
        if let Some(peer) = self.peers.get_mut(&rank) {
            (peer.link, peer.heard) = (Some(link), Instant::now());
        }
    }

    /// Runs until the goodbyes are said, or the main thread lets go without one.
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
                        // From here on no rank that is gone is a dead one.
                        self.ended = true;
                        self.send(&Message::Leave(code));
                    }
                    None if self.ended => std::future::pending().await,
                    None => return,
                },
                _ = ticks.tick() => self.on_tick(),
            }
            self.look();
        }
        for peer in self.peers.into_values() {
            if let Some(link) = peer.link {
                link.send(Message::Goodbye);
                link.close(FLUSH).await;
            }
        }
    }

    fn on_event(&mut self, event: LinkEvent) {
        self.notice_gap();
        match event {
            LinkEvent::Joined(rank, stream) => {
                if self.peers.get(&rank).is_some_and(|peer| peer.link.is_none() && !peer.left && !peer.lost) {
                    self.join(rank, stream);
                } else {
                    tracing::warn!("liveness: turned away a second connection of rank {rank}");
                }
            }
            LinkEvent::Frame(rank, frame) => self.on_frame(rank, frame),
            LinkEvent::Lost(rank, error) => {
                let Some(peer) = self.peers.get_mut(&rank).filter(|peer| !peer.left) else { return };
                peer.lost = true;
                tracing::debug!("liveness: lost rank {rank}: {error}");
            }
        }
    }

    fn on_frame(&mut self, rank: usize, frame: Message) {
        let Some(peer) = self.peers.get_mut(&rank) else { return };
        peer.heard = Instant::now();
        match frame {
            Message::Beat(standing) => peer.standing = standing,
            Message::Verdict(verdict) if self.rank != 0 => self.end(*verdict),
            Message::Goodbye => {
                peer.left = true;
                self.moved = Instant::now();
                match (&peer.link, self.leaving) {
                    (Some(link), _) if self.rank == 0 => link.send(Message::Goodbye),
                    (_, None) => {
                        tracing::warn!("liveness: rank {rank} has left, and nobody watches from here on");
                    }
                    _ => {}
                }
            }
            Message::Ask(code) if self.rank == 0 => (self.ending.options.on_ask)(code),
            Message::Leave(code) if self.rank != 0 => leave(code),
            Message::Hello { .. }
            | Message::Welcome
            | Message::Verdict(_)
            | Message::Ask(_)
            | Message::Leave(_) => {
                tracing::warn!("liveness: rank {rank} sent what only rank 0 or a new rank sends: {frame:?}");
            }
        }
    }

    /// To all whom this rank watches.
    fn send(&self, frame: &Message) {
        let links = self.peers.values().filter_map(|peer| peer.link.as_ref());
        links.for_each(|link| link.send(frame.clone()));
    }

    fn on_tick(&mut self) {
        self.notice_gap();
        let standing = self.standing();
        // A rank that has left is silent; rank 0 goes on for those who have not.
        if self.leaving.is_none() || self.rank == 0 {
            let links = self.peers.values().filter(|peer| !peer.left).filter_map(|peer| peer.link.as_ref());
            links.for_each(|link| link.send(Message::Beat(standing.clone())));
        }
        if self.leaving.is_none() && !standing.waits_for_others && standing.stands_still() {
            let ending = self.ending.clone();
            // Names of functions take longer than a heartbeat may.
            let _ = std::thread::Builder::new().spawn(move || ending.write_stack(&standing));
        }
    }

    /// Before anything that a gap makes stale is looked at.
    fn notice_gap(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.ran) > GAP {
            (self.awake, self.moved) = (now, now);
            self.peers.values_mut().for_each(|peer| peer.heard = now);
        }
        self.ran = now;
    }

    /// What this rank does. It counts from the last gap at the earliest, since a stopped process makes no progress.
    fn standing(&self) -> LastReport {
        let (moment, idle): (ActivitySnapshot, _) = self.activity.now();
        LastReport::new(moment, idle.min(self.awake.elapsed()))
    }

    fn leave(&mut self) {
        self.leaving = Some(Instant::now());
        self.moved = Instant::now();
        if self.rank != 0 {
            self.send(&Message::Goodbye);
        }
    }

    /// This rank has left, and so has everybody whom it has to wait for.
    fn done(&self) -> bool {
        let Some(since) = self.leaving.filter(|_| !self.ended) else { return false };
        let mut staying = self.peers.values().filter(|peer| peer.link.is_some() && !peer.left && !peer.lost);
        let limit = if self.rank == 0 { self.ending.options.farewell } else { ACKNOWLEDGED };
        let late = since.elapsed() > limit;
        if late && self.rank == 0 && staying.clone().count() > 0 {
            tracing::warn!("liveness: some ranks go on {} s after rank 0, unwatched", limit.as_secs_f64());
        }
        late || staying.next().is_none()
    }

    /// Judges those who have not left.
    fn look(&mut self) {
        if !self.armed || self.ended || (self.leaving.is_some() && self.rank != 0) {
            return;
        }
        self.notice_gap();
        let own = self.standing();
        let views = self.views(&own);
        let works = views.iter().any(|view| !view.standing.waits_for_others);
        let found = if self.rank == 0 { judge(&views, self.moved.elapsed()) } else { absent(&views) };
        if works {
            self.moved = Instant::now();
        }
        let Some(found) = found else { return };
        let standing = self.peers.get(&found.rank).map_or(own, |peer| peer.standing.clone());
        let Some(verdict) = self.verdict(found, standing) else { return };
        if self.rank == 0 {
            self.send(&Message::Verdict(verdict.clone().into()));
        }
        self.end(verdict);
    }

    fn views<'a>(&'a self, own: &'a LastReport) -> Vec<PeerView<'a>> {
        let silence = self.ending.options.silence;
        let present = self.peers.iter().filter(|(_, peer)| !peer.left);
        let mut views: Vec<_> = present
            .map(|(&rank, peer)| {
                let unheard = peer.heard.elapsed();
                PeerView { rank, standing: &peer.standing, unheard, silence, lost: peer.lost }
            })
            .collect();
        if self.rank == 0 && self.leaving.is_none() {
            views.insert(
                0,
                PeerView { rank: 0, standing: own, unheard: Duration::ZERO, silence, lost: false },
            );
        }
        views
    }

    fn verdict(&self, found: Symptom, standing: LastReport) -> Option<Diagnosis> {
        let Symptom { rank, kind, since, reason } = found;
        let identity = self.ending.identities.get(rank)?;
        let (host, pid) = (identity.host.clone(), identity.pid);
        Some(Diagnosis { rank, host, pid, kind, standing, since, reason })
    }

    fn end(&mut self, verdict: Diagnosis) {
        if !self.ended {
            self.ended = true;
            self.ending.begin(verdict);
        }
    }
}
