//! How a container's run ended, in the words the agent reports.

use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

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

/// What the engine says of a guest's last call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It returned, or called exit.
    Returned(i32),
    /// A trap, or an instantiation that failed; one line.
    Trapped(String),
}

/// Whether the guest's last attempt to get memory was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    Enough,
    Starved,
}

impl Exit {
    pub(crate) fn killed() -> Self {
        Self { code: code::KILLED, reason: ExitReason::Killed, message: None }
    }

    pub(crate) fn stopped() -> Self {
        Self { code: code::STOPPED, reason: ExitReason::Stopped, message: None }
    }

    pub(crate) fn completed() -> Self {
        Self { code: 0, reason: ExitReason::Completed, message: None }
    }

    /// A command's end. A guest that returns by itself is believed, even if it ran out of memory before.
    pub(crate) fn of_command(end: End, memory: Memory) -> Self {
        match (end, memory) {
            (End::Returned(0), _) => Self::completed(),
            (End::Returned(code), Memory::Enough) => Self { code, reason: ExitReason::Error, message: None },
            (End::Returned(code), Memory::Starved) => {
                let message = Some("its memory limit had refused it more memory".into());
                Self { code, reason: ExitReason::Error, message }
            }
            (End::Trapped(trap), Memory::Enough) => {
                Self { code: code::TRAP, reason: ExitReason::Error, message: Some(trap) }
            }
            (End::Trapped(trap), Memory::Starved) => Self::starved(&trap),
        }
    }

    /// A server's end after `count` requests in a row that ended in a trap, the last one in `trap`.
    pub(crate) fn of_server(count: u32, trap: &str, memory: Memory) -> Self {
        match memory {
            Memory::Enough => {
                let message = Some(format!("{count} requests in a row failed, the last one: {trap}"));
                Self { code: code::TRAP, reason: ExitReason::HttpTraps, message }
            }
            Memory::Starved => Self::starved(trap),
        }
    }

    fn starved(trap: &str) -> Self {
        let message = Some(format!("its memory limit refused it more memory: {trap}"));
        Self { code: code::KILLED, reason: ExitReason::OomKilled, message }
    }
}

impl End {
    /// What a call into a guest came to: `Err(())` is the guest's own "failed".
    pub(crate) fn of(result: wasmtime::Result<Result<(), ()>>) -> Self {
        match result {
            Ok(Ok(())) => Self::Returned(0),
            Ok(Err(())) => Self::Returned(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Self::Returned(exit.0),
                None => Self::Trapped(trap_message(&error)),
            },
        }
    }
}

/// The cause without the backtrace, in one line.
pub(crate) fn trap_message(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(end: End, memory: Memory, expected: &str) {
        let exit = Exit::of_command(end.clone(), memory);
        let message = exit.message.unwrap_or_default();
        assert_eq!(format!("{} {:?} {message}", exit.code, exit.reason).trim(), expected, "{end:?} {memory:?}");
    }

    #[test]
    fn commands_end() {
        let trap = || End::Trapped("unreachable".into());
        check(End::Returned(0), Memory::Enough, "0 Completed");
        check(End::Returned(0), Memory::Starved, "0 Completed");
        check(End::Returned(3), Memory::Enough, "3 Error");
        check(End::Returned(1), Memory::Starved, "1 Error its memory limit had refused it more memory");
        check(trap(), Memory::Enough, "134 Error unreachable");
        check(trap(), Memory::Starved, "137 OomKilled its memory limit refused it more memory: unreachable");
    }

    #[test]
    fn servers_end() {
        let exit = Exit::of_server(5, "unreachable", Memory::Enough);
        assert_eq!((exit.code, exit.reason), (134, ExitReason::HttpTraps));
        assert_eq!(exit.message.unwrap(), "5 requests in a row failed, the last one: unreachable");
        assert_eq!(Exit::of_server(5, "unreachable", Memory::Starved).reason, ExitReason::OomKilled);
    }
}
