//! Where a guest's standard output goes.

/// Which of the two output streams the guest wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// Takes what a guest prints, in the pieces in which it was printed (not lines).
///
/// Called from inside the guest's poll, so it must return at once: a full sink drops, it never waits and
/// never fails, because a guest must neither stall nor trap for want of log space.
pub trait LogSink: Send + Sync + 'static {
    fn write(&self, stream: LogStream, bytes: &[u8]);
}
