#![doc = include_str!("README.md")]

mod client;
mod detector;
mod diagnosis;
mod handshake;
mod identity;
mod link;
mod protocol;
mod server;
mod shutdown;
mod stack;
mod step_clock;
mod watch;

pub use diagnosis::{Diagnosis, LastReport, RankFailure};
pub use step_clock::StepClock;

use crate::activity::Activity;
use crate::control::Control;
use crate::error::CollectiveError;
use identity::{RankIdentity, own_thread};
use server::{Endpoint, Server, listen};
use shutdown::Shutdown;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use watch::{Watcher, WatcherCommand};

/// Options of the liveness monitoring.
pub struct LivenessOptions {
    /// Time without a heartbeat after which a rank counts as stopped or unreachable. Ranks send four heartbeats per
    /// second.
    pub silence: Duration,
    /// Timeout for connecting to rank 0 at the start.
    pub connect: Duration,
    /// Maximum time for which rank 0, when it is done, continues to monitor the other ranks.
    pub farewell: Duration,
    /// Exit code of every rank after a verdict.
    pub exit_code: i32,
    /// Called on rank 0 with the code of [`StopNotifier::ask`] on another rank. Must return at once.
    pub on_ask: Box<dyn Fn(i32) + Send + Sync>,
    /// Called on every rank after a verdict, on a separate thread. The process ends between one and two seconds
    /// later, even if the callback has not returned.
    pub on_verdict: Box<dyn Fn(&Diagnosis) + Send + Sync>,
}

impl Default for LivenessOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let (silence, connect, farewell) = (seconds(5), seconds(10), seconds(30));
        let (on_ask, on_verdict) = (Box::new(|_| ()), Box::new(|_: &Diagnosis| ()));
        Self { silence, connect, farewell, exit_code: 1, on_ask, on_verdict }
    }
}

impl fmt::Debug for LivenessOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("LivenessOptions");
        f.field("silence", &self.silence).field("connect", &self.connect).field("farewell", &self.farewell);
        f.field("exit_code", &self.exit_code).finish_non_exhaustive()
    }
}

/// The liveness monitoring could not start.
#[derive(Debug, thiserror::Error)]
pub enum LivenessError {
    /// A rank cannot connect; all ranks receive the same error.
    #[error(
        "rank {rank} cannot join the liveness monitoring: {problem}\nhint: allow TCP connections to the host of rank 0"
    )]
    Start {
        /// The first rank with a problem.
        rank: usize,
        /// Its problem.
        problem: String,
    },
    /// A collective failed while the ranks exchanged their addresses.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}

/// Active liveness monitoring of this rank. If it is dropped without [`goodbye`](Self::goodbye), the rank counts as
/// dead.
#[derive(Debug)]
pub struct Liveness {
    commands: Option<mpsc::UnboundedSender<WatcherCommand>>,
    thread: Option<JoinHandle<()>>,
}

impl Liveness {
    /// Connects all ranks. Every rank must call it from its training thread, whose stack is written if the rank is
    /// stuck.
    pub fn start(
        control: &Control,
        activity: &Activity,
        options: LivenessOptions,
    ) -> Result<Self, LivenessError> {
        let (own, listening) = agree(control, prepare(control))?;
        let rendezvous = Rendezvous::exchange(control, &own, listening)?;
        let (rank, thread, connect) = (control.rank(), own_thread(), options.connect);
        let identities = rendezvous.identities.clone();
        let shutdown =
            Arc::new(Shutdown { rank, identities, options, thread, stack_written_at: Mutex::new(None) });
        let (sender, commands) = mpsc::unbounded_channel();
        let watcher = Watcher::new(control.size(), activity.clone(), shutdown, commands);
        let (report, ready) = std_mpsc::channel();
        let work = move || run(rendezvous, watcher, (rank, connect), &report);
        let thread = std::thread::Builder::new().name("liveness".into()).spawn(work);
        let connected = thread.map(|thread| {
            let ended = |_| Err(io::Error::other("the liveness thread has ended"));
            (thread, ready.recv().unwrap_or_else(ended))
        });
        let (thread, result) =
            connected.map_or_else(|error| (None, Err(error)), |(t, result)| (Some(t), result));
        let mut liveness = Self { commands: Some(sender), thread };
        if let Err(error) = agree(control, result) {
            liveness.end(Some(WatcherCommand::Goodbye));
            return Err(error);
        }
        liveness.send(WatcherCommand::Arm);
        Ok(liveness)
    }

    /// Ends the monitoring of this rank after its work. Rank 0 waits here for the others and monitors them meanwhile.
    pub fn goodbye(mut self) {
        self.end(Some(WatcherCommand::Goodbye));
    }

    /// Returns a notifier that works from any thread, also while the training thread hangs.
    pub fn stop_notifier(&self) -> StopNotifier {
        StopNotifier(self.commands.as_ref().map(mpsc::UnboundedSender::downgrade))
    }

    fn send(&self, command: WatcherCommand) {
        // The channel is closed if the thread has ended.
        let _ = self.commands.as_ref().map(|commands| commands.send(command));
    }

    fn end(&mut self, command: Option<WatcherCommand>) {
        if let Some(command) = command {
            self.send(command);
        }
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Sends a request to stop around collectives that hang. It works while the [`Liveness`] it comes from exists.
#[derive(Debug, Clone, Default)]
pub struct StopNotifier(Option<mpsc::WeakUnboundedSender<WatcherCommand>>);

impl StopNotifier {
    /// Forwards the request to stop that this rank has received to rank 0.
    pub fn ask(&self, code: i32) {
        self.send(WatcherCommand::Ask(code));
    }

    /// On rank 0, makes all other ranks exit with this code at once. From then on, rank 0 reports no rank as dead; it
    /// must end soon after.
    pub fn leave(&self, exit_code: i32) {
        self.send(WatcherCommand::Leave(exit_code));
    }

    fn send(&self, command: WatcherCommand) {
        // Without monitoring there is no other rank to notify.
        let sender = self.0.as_ref().and_then(mpsc::WeakUnboundedSender::upgrade);
        let _ = sender.map(|sender| sender.send(command));
    }
}

type Listening = Option<(Vec<StdListener>, Endpoint)>;

/// The local preparation of each rank, before the ranks exchange their addresses.
fn prepare(control: &Control) -> io::Result<(RankIdentity, Listening)> {
    stack::install()?;
    let own = RankIdentity::own()?;
    let first_of_many = control.rank() == 0 && control.size() > 1;
    let listening = first_of_many.then(|| listen(&own.host)).transpose()?;
    Ok((own, listening))
}

/// The result of this rank, or the failure of the lowest rank that has one.
fn agree<T>(control: &Control, result: io::Result<T>) -> Result<T, LivenessError> {
    let problem = result.as_ref().err().map(ToString::to_string);
    match (control.agree(problem.as_deref())?, result) {
        (None, Ok(value)) => Ok(value),
        (Some((rank, problem)), _) => Err(LivenessError::Start { rank, problem }),
        (None, Err(error)) => Err(LivenessError::Start { rank: control.rank(), problem: error.to_string() }),
    }
}

/// The identities and the address that the ranks exchange over MPI before they connect.
struct Rendezvous {
    identities: Vec<RankIdentity>,
    /// `None` for a single rank.
    endpoint: Option<Endpoint>,
    /// On rank 0 only.
    listeners: Vec<StdListener>,
}

impl Rendezvous {
    fn exchange(
        control: &Control,
        own: &RankIdentity,
        listening: Listening,
    ) -> Result<Self, CollectiveError> {
        let undecodable = |expected| {
            let rank = control.rank();
            move |_| CollectiveError::Message { rank, operation: "liveness", expected }
        };
        let (listeners, endpoint) = listening.map_or((Vec::new(), None), |(l, endpoint)| (l, Some(endpoint)));
        let own = serde_json::to_vec(own).map_err(undecodable("a process"))?;
        let endpoint = serde_json::to_vec(&endpoint).map_err(undecodable("an address"))?;
        let all = control.all_gather(&own)?;
        let endpoint = control.broadcast(endpoint, 0)?;
        let identities = all.iter().map(|bytes| serde_json::from_slice(bytes));
        let identities = identities.collect::<Result<_, _>>().map_err(undecodable("a process"))?;
        let endpoint = serde_json::from_slice(&endpoint).map_err(undecodable("an address"))?;
        Ok(Self { identities, endpoint, listeners })
    }
}

/// The liveness thread. It never calls MPI.
fn run(
    rendezvous: Rendezvous,
    watcher: Watcher,
    (rank, connect): (usize, Duration),
    ready: &std_mpsc::Sender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        match connect_ranks(rendezvous, watcher, (rank, connect)).await {
            Ok(watcher) => {
                let _ = ready.send(Ok(()));
                watcher.run().await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // Does not wait for a name lookup that may still be running.
    runtime.shutdown_background();
}

async fn connect_ranks(
    rendezvous: Rendezvous,
    mut watcher: Watcher,
    (rank, connect): (usize, Duration),
) -> io::Result<Watcher> {
    let Some(endpoint) = rendezvous.endpoint else { return Ok(watcher) };
    if rank > 0 {
        watcher.join(0, client::connect(&endpoint, rank, connect).await?);
        return Ok(watcher);
    }
    tracing::debug!("liveness: listening on {:?}", endpoint.addresses);
    let server = Server::new(endpoint.token, rendezvous.identities.len(), watcher.events());
    for listener in rendezvous.listeners {
        tokio::spawn(server.clone().accept(TcpListener::from_std(listener)?));
    }
    Ok(watcher)
}
