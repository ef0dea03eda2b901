//! `wherry.dev/stop-when-isolated`: a pod that must not run twice stops itself when the node has heard
//! nothing for a while, because the hub then starts it elsewhere.
//!
//! Counted on the boot clock. After a restart of agent or node nobody knows how long the silence was,
//! so such a pod waits for the first contact: later than necessary, never twice.

use core::time::Duration;

use crate::time::Moment;

/// When the node last heard from its broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contact {
    last: Option<Moment>,
}

/// How a pod with a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    InTouch { until: Moment },
    Isolated,
}

impl Contact {
    pub fn heard(&mut self, at: Moment) {
        self.last = self.last.max(Some(at));
    }

    pub fn judge(&self, limit: Duration, now: Moment) -> Isolation {
        match self.last.map(|last| last.plus(limit)) {
            Some(until) if until > now => Isolation::InTouch { until },
            Some(_) | None => Isolation::Isolated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(last: Option<u64>, now: u64, want: Isolation) {
        let contact = Contact { last: last.map(Moment) };
        assert_eq!(contact.judge(Duration::from_millis(100), Moment(now)), want, "{last:?} at {now}");
    }

    #[test]
    fn silence_longer_than_the_limit_isolates() {
        check(None, 0, Isolation::Isolated);
        check(Some(50), 149, Isolation::InTouch { until: Moment(150) });
        check(Some(50), 150, Isolation::Isolated);
    }

    #[test]
    fn contact_never_moves_back() {
        let mut contact = Contact::default();
        contact.heard(Moment(9));
        contact.heard(Moment(4));
        assert_eq!(contact, Contact { last: Some(Moment(9)) });
    }
}
