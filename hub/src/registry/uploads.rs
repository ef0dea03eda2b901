//! Blobs that arrive in pieces, over several requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::blobs::Incoming;

/// Clients push a handful of layers at a time.
const SESSIONS_MAX: usize = 64;
/// A client that is silent for so long has gone.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Upload sessions. They do not outlive the process: clients start again then.
#[derive(Default)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    used: Instant,
    /// `None` while it is being finished.
    incoming: Arc<tokio::sync::Mutex<Option<Incoming>>>,
}

/// One session's blob; requests of one session wait for each other.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Incoming>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{SESSIONS_MAX} uploads are under way; try again later")]
pub(super) struct TooMany;

impl Uploads {
    pub(super) fn start(&self, id: String, incoming: Incoming, now: Instant) -> Result<(), TooMany> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now.saturating_duration_since(session.used) < IDLE);
        if sessions.len() >= SESSIONS_MAX {
            return Err(TooMany);
        }
        let incoming = Arc::new(tokio::sync::Mutex::new(Some(incoming)));
        sessions.insert(id, Session { used: now, incoming });
        Ok(())
    }

    pub(super) fn get(&self, id: &str, now: Instant) -> Option<Slot> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id)?;
        session.used = now;
        Some(session.incoming.clone())
    }

    pub(super) fn end(&self, id: &str) -> Option<Slot> {
        let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id)?;
        Some(session.incoming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::blobs::Blobs;

    #[test]
    fn sessions_are_bounded_and_expire() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let (uploads, start) = (Uploads::default(), Instant::now());
        for n in 0..SESSIONS_MAX {
            uploads.start(n.to_string(), blobs.receive(1).unwrap(), start).unwrap();
        }
        assert_eq!(uploads.start("one more".into(), blobs.receive(1).unwrap(), start), Err(TooMany));
        let later = start + IDLE / 2;
        assert!(uploads.get("7", later).is_some());
        uploads.start("one more".into(), blobs.receive(1).unwrap(), start + IDLE).unwrap();
        assert!(uploads.get("7", start + IDLE).is_some(), "it was used meanwhile");
        assert!(uploads.get("8", start + IDLE).is_none());
        assert!(uploads.end("7").is_some());
        assert!(uploads.end("7").is_none());
    }
}
