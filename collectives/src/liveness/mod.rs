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

/// What is adjustable.
pub struct LivenessOptions {
    /// How long a rank may be unheard before it counts as stopped or unreachable. Heartbeats come four times a second.
    pub silence: Duration,
    /// How long the ranks try to reach rank 0 at the start.
    pub connect: Duration,
    /// How long rank 0, when it is done, goes on watching ranks that are not.
    pub farewell: Duration,
    /// Exit code of every rank after a verdict.
    pub exit_code: i32,
    /// Called on rank 0 with what another rank was asked, see [`StopNotifier::ask`]. It returns at once.
    pub on_ask: Box<dyn Fn(i32) + Send + Sync>,
    /// Called on every rank when a verdict is known, on a thread of its own. It has somewhat more than a second:
    /// then the process ends.
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

/// The channel could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LivenessError {
    /// On this rank or another; all ranks get the same.
    #[error(
        "rank {rank} cannot watch or be watched: {problem}\nhint: allow TCP connections to rank 0's host"
    )]
    Start {
        /// The first rank with a problem.
        rank: usize,
        /// Its problem.
        problem: String,
    },
    /// A collective failed while the ranks met.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}

/// This rank is watched, and watches. Dropped without [`goodbye`](Self::goodbye) it counts as dead.
#[derive(Debug)]
pub struct Liveness {
    commands: Option<mpsc::UnboundedSender<WatcherCommand>>,
    thread: Option<JoinHandle<()>>,
}

impl Liveness {
    /// Connects all ranks; every rank calls it, from the thread that trains: its stack is the one that is written
    /// if this rank is stuck.
    pub fn start(
        control: &Control,
        activity: &Activity,
        options: LivenessOptions,
    ) -> Result<Self, LivenessError> {
        let (own, listening) = agreed(control, prepare(control))?;
        let meeting = Rendezvous::arrange(control, &own, listening)?;
        let (rank, thread, connect) = (control.rank(), own_thread(), options.connect);
        let identities = meeting.identities.clone();
        let ending = Arc::new(Shutdown { rank, identities, options, thread, written: Mutex::new(None) });
        let (sender, commands) = mpsc::unbounded_channel();
        let watch = Watcher::new(control.size(), activity.clone(), ending, commands);
        let (tell, ready) = std_mpsc::channel();
        let work = move || run(meeting, watch, (rank, connect), &tell);
        let thread = std::thread::Builder::new().name("liveness".into()).spawn(work);
        let connected = thread.map(|thread| {
            let lost = |_| Err(io::Error::other("the watching thread ended"));
            (thread, ready.recv().unwrap_or_else(lost))
        });
        let (thread, result) =
            connected.map_or_else(|error| (None, Err(error)), |(t, result)| (Some(t), result));
        let mut liveness = Self { commands: Some(sender), thread };
        if let Err(error) = agreed(control, result) {
            liveness.end(Some(WatcherCommand::Goodbye));
            return Err(error);
        }
        liveness.tell(WatcherCommand::Arm);
        Ok(liveness)
    }

    /// Ends the watch of this rank, whose work is done. Rank 0 waits here for the others, and watches them meanwhile.
    pub fn goodbye(mut self) {
        self.end(Some(WatcherCommand::Goodbye));
    }

    /// Reaches the other ranks from any thread, also while the one that trains hangs.
    pub fn messenger(&self) -> StopNotifier {
        StopNotifier(self.commands.as_ref().map(mpsc::UnboundedSender::downgrade))
    }

    fn tell(&self, command: WatcherCommand) {
        // A thread that has ended needs no telling.
        let _ = self.commands.as_ref().map(|commands| commands.send(command));
    }

    fn end(&mut self, command: Option<WatcherCommand>) {
        if let Some(command) = command {
            self.tell(command);
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

/// Carries the wish to stop past collectives that hang. It works as long as the [`Liveness`] it comes from.
#[derive(Debug, Clone, Default)]
pub struct StopNotifier(Option<mpsc::WeakUnboundedSender<WatcherCommand>>);

impl StopNotifier {
    /// Tells rank 0 what this rank was asked.
    pub fn ask(&self, code: i32) {
        self.send(WatcherCommand::Ask(code));
    }

    /// Rank 0 ends all other ranks with this exit code, whatever they do, and itself ends soon after: their end is no
    /// longer a death.
    pub fn leave(&self, exit_code: i32) {
        self.send(WatcherCommand::Leave(exit_code));
    }

    fn send(&self, command: WatcherCommand) {
        // Without a watch there is nobody to be told.
        let sender = self.0.as_ref().and_then(mpsc::WeakUnboundedSender::upgrade);
        let _ = sender.map(|sender| sender.send(command));
    }
}

type Listening = Option<(Vec<StdListener>, Endpoint)>;

/// What each rank does before the ranks meet.
fn prepare(control: &Control) -> io::Result<(RankIdentity, Listening)> {
    stack::install()?;
    let own = RankIdentity::own()?;
    let first_of_many = control.rank() == 0 && control.size() > 1;
    let listening = first_of_many.then(|| listen(&own.host)).transpose()?;
    Ok((own, listening))
}

/// A result of this rank, or the failure of the first rank that has one.
fn agreed<T>(control: &Control, result: io::Result<T>) -> Result<T, LivenessError> {
    let problem = result.as_ref().err().map(ToString::to_string);
    match (control.agree(problem.as_deref())?, result) {
        (None, Ok(value)) => Ok(value),
        (Some((rank, problem)), _) => Err(LivenessError::Start { rank, problem }),
        (None, Err(error)) => Err(LivenessError::Start { rank: control.rank(), problem: error.to_string() }),
    }
}

/// What the ranks know of each other before they connect.
struct Rendezvous {
    identities: Vec<RankIdentity>,
    /// None for a single rank.
    endpoint: Option<Endpoint>,
    /// Rank 0's.
    listeners: Vec<StdListener>,
}

impl Rendezvous {
    fn arrange(control: &Control, own: &RankIdentity, listening: Listening) -> Result<Self, CollectiveError> {
        let unclear = |expected| {
            let rank = control.rank();
            move |_| CollectiveError::Message { rank, operation: "liveness", expected }
        };
        let (listeners, endpoint) = listening.map_or((Vec::new(), None), |(l, endpoint)| (l, Some(endpoint)));
        let own = serde_json::to_vec(own).map_err(unclear("a process"))?;
        let endpoint = serde_json::to_vec(&endpoint).map_err(unclear("an address"))?;
        let all = control.all_gather(&own)?;
        let endpoint = control.broadcast(endpoint, 0)?;
        let identities = all.iter().map(|bytes| serde_json::from_slice(bytes));
        let identities = identities.collect::<Result<_, _>>().map_err(unclear("a process"))?;
        let endpoint = serde_json::from_slice(&endpoint).map_err(unclear("an address"))?;
        Ok(Self { identities, endpoint, listeners })
    }
}

/// The watching thread. It never calls MPI.
fn run(
    meeting: Rendezvous,
    watch: Watcher,
    (rank, connect): (usize, Duration),
    ready: &std_mpsc::Sender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        match prepare_watch(meeting, watch, (rank, connect)).await {
            Ok(watch) => {
                let _ = ready.send(Ok(()));
                watch.run().await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // A look-up of a name may still be under way, and nobody waits for it.
    runtime.shutdown_background();
}

async fn prepare_watch(
    meeting: Rendezvous,
    mut watch: Watcher,
    (rank, connect): (usize, Duration),
) -> io::Result<Watcher> {
    let Some(endpoint) = meeting.endpoint else { return Ok(watch) };
    if rank > 0 {
        watch.join(0, client::connect(&endpoint, rank, connect).await?);
        return Ok(watch);
    }
    tracing::debug!("liveness: listening on {:?}", endpoint.addresses);
    let server = Server::new(endpoint.token, meeting.identities.len(), watch.events());
    for listener in meeting.listeners {
        tokio::spawn(server.clone().accept(TcpListener::from_std(listener)?));
    }
    Ok(watch)
}
