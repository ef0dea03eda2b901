//! Who is connected under a node's name.
//!
//! A will arrives after the next birth, so it counts only for the newest connection. A restarted agent
//! is a new process and the old one is never heard again; if it is, two processes live under one name:
//! a cloned SD card.

use std::collections::VecDeque;

use protocol::presence::Presence;

/// Processes remembered as replaced. A clone shows within a reconnect or two.
const REPLACED_MAX: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracker {
    current: Option<Presence>,
    replaced: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new, or old news.
    Stale,
    /// A connection has begun.
    Online,
    /// The newest connection has ended.
    Offline,
    /// Two processes have this name; `intruder` came later than the other.
    Duplicate { intruder: u64 },
}

impl Tracker {
    /// Whether the newest connection stands, as far as heard.
    pub fn is_online(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.online)
    }

    pub fn current(&self) -> Option<&Presence> {
        self.current.as_ref()
    }

    /// Takes one message; `owner` is the machine id that the name was given to.
    pub fn hear(&mut self, heard: Presence, owner: Option<&str>) -> Verdict {
        let Some(current) = &self.current else {
            let verdict = if heard.online { Verdict::Online } else { Verdict::Stale };
            self.current = Some(heard);
            return verdict;
        };
        if heard.process == current.process {
            return self.same_process(heard);
        }
        if !heard.online {
            return Verdict::Stale;
        }
        if self.replaced.contains(&heard.process) {
            return self.duplicate(heard, owner);
        }
        self.replace(heard);
        Verdict::Online
    }

    fn same_process(&mut self, heard: Presence) -> Verdict {
        let current = self.current.as_ref().map_or((0, false), |current| (current.connection, current.online));
        let is_end = heard.connection == current.0 && !heard.online && current.1;
        let is_birth = heard.online && (heard.connection > current.0 || (heard.connection == current.0 && !current.1));
        if !is_end && !is_birth {
            return Verdict::Stale;
        }
        self.current = Some(heard);
        if is_end { Verdict::Offline } else { Verdict::Online }
    }

    /// `heard` was replaced once and is back. Whoever is the machine that joined stays; of two equals
    /// the one that was there first.
    fn duplicate(&mut self, heard: Presence, owner: Option<&str>) -> Verdict {
        let is_owner = |presence: &Presence| owner == Some(presence.machine_id.as_str());
        let keeps_current = self.current.as_ref().is_some_and(|current| is_owner(current) && !is_owner(&heard));
        if keeps_current {
            return Verdict::Duplicate { intruder: heard.process };
        }
        let intruder = self.current.as_ref().map_or(heard.process, |current| current.process);
        self.replaced.retain(|process| *process != heard.process);
        self.replace(heard);
        Verdict::Duplicate { intruder }
    }

    fn replace(&mut self, heard: Presence) {
        if let Some(old) = self.current.replace(heard) {
            if self.replaced.len() >= REPLACED_MAX {
                self.replaced.pop_front();
            }
            self.replaced.push_back(old.process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::BootId;

    /// `a1+` is process a, connection 1, online; `a1-` its end. Machines are called like processes.
    fn check(owner: &str, story: &[(&str, &str)]) {
        let mut tracker = Tracker::default();
        for (heard, want) in story {
            let bytes = heard.as_bytes();
            let presence = Presence {
                boot: BootId::default(),
                connection: u64::from(bytes[1] - b'0'),
                online: bytes[2] == b'+',
                machine_id: char::from(bytes[0]).to_string(),
                process: u64::from(bytes[0]),
            };
            let got = match tracker.hear(presence, Some(owner)) {
                Verdict::Stale => "stale".to_owned(),
                Verdict::Online => "online".to_owned(),
                Verdict::Offline => "offline".to_owned(),
                Verdict::Duplicate { intruder } => format!("not {}", char::from(u8::try_from(intruder).unwrap())),
            };
            assert_eq!(got, *want, "{heard} in {story:?}");
        }
    }

    #[test]
    fn connections_follow_each_other() {
        check("a", &[("a1+", "online"), ("a1+", "stale"), ("a1-", "offline"), ("a1-", "stale"), ("a2+", "online")]);
    }

    #[test]
    fn a_late_will_is_ignored() {
        check("a", &[("a1+", "online"), ("a2+", "online"), ("a1-", "stale"), ("a2-", "offline")]);
        check("a", &[("a1+", "online"), ("b1+", "online"), ("a1-", "stale"), ("b1-", "offline")]);
        check("a", &[("a1-", "stale"), ("a2+", "online")]);
    }

    #[test]
    fn a_restart_is_no_clone() {
        check("a", &[("a1+", "online"), ("b1+", "online"), ("b2+", "online"), ("c1+", "online")]);
    }

    #[test]
    fn of_two_machines_the_one_that_joined_stays() {
        check("a", &[("a1+", "online"), ("b1+", "online"), ("a2+", "not b"), ("b2+", "not b"), ("a3+", "online")]);
        check("b", &[("a1+", "online"), ("b1+", "online"), ("a2+", "not a"), ("b2+", "online")]);
    }

    #[test]
    fn of_two_clones_the_first_stays() {
        check("x", &[("a1+", "online"), ("b1+", "online"), ("a2+", "not b")]);
    }
}
