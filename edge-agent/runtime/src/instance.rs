//! One run of one container, as its owner sees it: a handle to stop it by and an end to wait for.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::exit::{Exit, ExitReason, Memory, code};
use crate::load::StopSupport;
use crate::memory::Budget;
use crate::meter::{Meter, Metered, Ticker};

/// A running container. Dropping the handle kills the guest: no guest outlives its owner.
pub struct Instance {
    run: Arc<Run>,
    stop_support: StopSupport,
}

/// What a run has used since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of the guest and of host calls on its behalf.
    pub cpu_micros: u64,
    /// Linear memories and tables held now.
    pub memory_bytes: u64,
    /// HTTP requests answered, and those among them answered for the guest with a 5xx (trap, timeout).
    pub requests: u64,
    pub failed_requests: u64,
}

impl Instance {
    pub(crate) fn new(run: Arc<Run>, stop_support: StopSupport) -> Self {
        Self { run, stop_support }
    }

    /// Resolves once, with the same value for everybody, when nothing of the guest runs any more.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        let mut exit = self.run.exit.subscribe();
        async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.clone().unwrap_or_else(broken),
                // The sender lives until an exit has been sent (see `Ending`).
                Err(_) => broken(),
            }
        }
    }

    /// The end, if it has come.
    pub fn exit(&self) -> Option<Exit> {
        self.run.exit.borrow().clone()
    }

    /// Asks the guest to end. A command that imports `wherry:pod/lifecycle` hears it and takes its time; a server
    /// stops accepting, finishes its requests and ends with 0; a command that cannot hear is ended at once.
    /// The grace is the caller's: [`Instance::kill`] when it is over.
    pub fn signal_stop(&self) {
        match self.stop_support {
            StopSupport::Graceful => drop(self.run.control.stop.send_replace(true)),
            StopSupport::AtOnce => self.run.control.cut(Cut::Stopped),
        }
    }

    /// Ends the guest now, whatever it is doing: within one epoch tick and a poll (well under 100 ms).
    pub fn kill(&self) {
        self.run.control.cut(Cut::Killed);
    }

    pub fn usage(&self) -> Usage {
        self.run.usage()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Why a guest is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Stopped,
    Killed,
}

/// The two signals that reach a guest.
#[derive(Debug)]
pub(crate) struct Control {
    /// "Please end", heard through `wherry:pod/lifecycle` and by servers.
    pub(crate) stop: watch::Sender<bool>,
    cut: watch::Sender<Option<Cut>>,
}

impl Control {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { stop: watch::Sender::new(false), cut: watch::Sender::new(None) })
    }

    /// The first cause counts.
    pub(crate) fn cut(&self, cause: Cut) {
        self.cut.send_if_modified(|cut| cut.is_none() && cut.replace(cause).is_none());
    }

    /// Resolves when the guest is ended from outside, with the exit that this gives.
    pub(crate) async fn wait_cut(&self) -> Exit {
        let mut cut = self.cut.subscribe();
        let cause = cut.wait_for(Option::is_some).await.ok().and_then(|cut| *cut);
        match cause {
            Some(Cut::Stopped) => Exit::stopped(),
            Some(Cut::Killed) | None => Exit::killed(),
        }
    }
}

/// The guests' threads, and what keeps them interruptible.
#[derive(Clone)]
pub(crate) struct Guests {
    pub(crate) threads: tokio::runtime::Handle,
    pub(crate) ticker: Arc<Ticker>,
}

/// A run, as the guest's tasks and the handle share it.
pub(crate) struct Run {
    pub(crate) control: Arc<Control>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) requests: AtomicU64,
    pub(crate) failed: AtomicU64,
    meter: Arc<Meter>,
    exit: watch::Sender<Option<Exit>>,
}

impl Run {
    pub(crate) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            control: Control::new(),
            budget,
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            meter: Arc::default(),
            exit: watch::Sender::new(None),
        })
    }

    /// Starts the run on the guests' threads; its end becomes the run's exit.
    pub(crate) fn spawn(self: &Arc<Self>, guests: &Guests, work: impl Future<Output = Exit> + Send + 'static) {
        let ending = Ending(self.clone());
        guests.threads.spawn(async move {
            let exit = work.await;
            ending.0.exit.send_replace(Some(exit));
        });
    }

    /// Bills `guest` to this run.
    pub(crate) fn metered<F: Future>(&self, guests: &Guests, guest: F) -> Metered<F> {
        Metered::new(guest, self.meter.clone(), guests.ticker.clone())
    }

    pub(crate) fn memory(&self) -> Memory {
        if self.budget.starved() { Memory::Starved } else { Memory::Enough }
    }

    fn usage(&self) -> Usage {
        Usage {
            cpu_micros: self.meter.micros(),
            memory_bytes: self.budget.used(),
            requests: self.requests.load(Ordering::Relaxed),
            failed_requests: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// Gives a run an exit even if its task is dropped unfinished: by a panic, or with its runtime.
struct Ending(Arc<Run>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.exit.send_if_modified(|exit| exit.is_none() && exit.replace(broken()).is_none());
    }
}

fn broken() -> Exit {
    let message = Some("the agent's runtime gave up on it".to_owned());
    Exit { code: code::KILLED, reason: ExitReason::Error, message }
}
