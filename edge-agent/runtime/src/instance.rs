//! One run of one container, as its owner sees it: a handle to stop it by and an end to wait for.

use std::future::Future;

use crate::exit::Exit;

/// A running container. Dropping the handle kills the guest: no guest outlives its owner.
pub struct Instance {}

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
    /// Resolves once, with the same value for everybody, when nothing of the guest runs any more.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        std::future::pending()
    }

    /// The end, if it has come.
    pub fn exit(&self) -> Option<Exit> {
        None
    }

    /// Asks the guest to end. A command that imports `wherry:pod/lifecycle` hears it and takes its time; a server
    /// stops accepting, finishes its requests and ends with 0; a command that cannot hear is ended at once.
    /// The grace is the caller's: [`Instance::kill`] when it is over.
    pub fn signal_stop(&self) {
        unimplemented!()
    }

    /// Ends the guest now, whatever it is doing: within one epoch tick and a poll (well under 100 ms).
    pub fn kill(&self) {
        unimplemented!()
    }

    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}
