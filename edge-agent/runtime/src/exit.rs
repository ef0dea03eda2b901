//! How a container's run ended, in the words the agent reports.

/// The end of one run. A container has exactly one, however it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What `kubectl` shows: the guest's own code, or one of the constants of [`code`].
    pub code: i32,
    pub reason: ExitReason,
    /// One line for `kubectl describe`; none where the code says it all.
    pub message: Option<String>,
}

/// Kubernetes knows three words (`Completed`, `Error`, `OOMKilled`); the others tell the agent who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest returned, with code 0; or a server drained after a stop.
    Completed,
    /// The guest returned another code, or trapped.
    Error,
    /// The guest died after its memory limit had refused it more.
    OomKilled,
    /// It was asked to stop and had no way to hear of it.
    Stopped,
    /// [`crate::Instance::kill`], the last step of every stop.
    Killed,
    /// An HTTP component trapped on too many requests in a row.
    HttpTraps,
}

/// Exit codes that no guest chose. They are those of a Unix process that met the same end
/// (128 + signal), because people and their scripts know them.
pub mod code {
    /// Any trap: a Unix process would have died by SIGABRT.
    pub const TRAP: i32 = 134;
    /// SIGKILL: killed, by [`crate::Instance::kill`] or by the memory limit.
    pub const KILLED: i32 = 137;
    /// SIGTERM: ended by a stop signal that it could not hear.
    pub const STOPPED: i32 = 143;
}
