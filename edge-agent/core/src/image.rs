//! Images as the plan sees them: absent, on their way, ready, or failed and due again later.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use protocol::Digest;
use protocol::pod::Image;

use crate::restart::Backoff;
use crate::time::Moment;

/// Names one component with its data layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub Digest);

impl ImageId {
    pub fn of(image: &Image) -> Self {
        let bytes = postcard::to_allocvec(image).expect("digests and numbers always serialize");
        Self(Digest::of(&bytes))
    }
}

/// How long a failure shows as `ErrImagePull` before it becomes `ImagePullBackOff`: long enough that a
/// watching person sees the cause.
pub const FRESH_FAILURE: Duration = Duration::from_secs(2);

/// Why an image is not ready: decides the reason shown and what a person can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It could not be had.
    Pull,
    /// It came, but cannot run here (an unknown import, another engine).
    Unusable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Fetching,
    Ready,
    Failed { at: Moment, until: Moment, failures: u32, trouble: Trouble, message: String },
}

#[derive(Debug, Clone, Default)]
pub struct Images {
    states: BTreeMap<ImageId, (State, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Ready,
    Fetch,
    Wait {
        until: Moment,
    },
    /// On its way.
    Pending,
}

impl Images {
    pub fn state(&self, id: ImageId) -> Option<&State> {
        self.states.get(&id).map(|(state, _)| state)
    }

    pub fn need(&self, id: ImageId, now: Moment) -> Need {
        match self.state(id) {
            None => Need::Fetch,
            Some(State::Fetching) => Need::Pending,
            Some(State::Ready) => Need::Ready,
            Some(State::Failed { until, .. }) if *until <= now => Need::Fetch,
            Some(State::Failed { until, .. }) => Need::Wait { until: *until },
        }
    }

    pub fn begin(&mut self, id: ImageId) {
        let failures = self.states.get(&id).map_or(0, |(_, failures)| *failures);
        self.states.insert(id, (State::Fetching, failures));
    }

    pub fn ready(&mut self, id: ImageId) {
        if let Some(entry) = self.states.get_mut(&id) {
            *entry = (State::Ready, 0);
        }
    }

    pub fn failed(&mut self, id: ImageId, trouble: Trouble, message: String, now: Moment, backoff: &Backoff) {
        if let Some((state, failures)) = self.states.get_mut(&id) {
            *failures = failures.saturating_add(1);
            let until = now.plus(backoff.after(*failures));
            *state = State::Failed { at: now, until, failures: *failures, trouble, message };
        }
    }

    /// Makes failed pulls due now; their count of failures stays.
    pub fn retry_pulls(&mut self, now: Moment) {
        for (state, _) in self.states.values_mut() {
            match state {
                State::Failed { until, trouble: Trouble::Pull, .. } => *until = now.min(*until),
                State::Failed { trouble: Trouble::Unusable, .. } | State::Fetching | State::Ready => {}
            }
        }
    }

    /// When each failed image failed.
    pub fn failures(&self) -> impl Iterator<Item = Moment> + '_ {
        self.states.values().filter_map(|(state, _)| match state {
            State::Failed { at, .. } => Some(*at),
            State::Fetching | State::Ready => None,
        })
    }

    /// The images that nobody wants and nobody fetches.
    pub fn unwanted<'a>(&'a self, wanted: &'a BTreeSet<ImageId>) -> impl Iterator<Item = ImageId> + 'a {
        self.states
            .iter()
            .filter(|(id, (state, _))| !wanted.contains(id) && *state != State::Fetching)
            .map(|(id, _)| *id)
    }

    pub fn forget(&mut self, id: ImageId) {
        self.states.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ImageId = ImageId(Digest([7; 32]));

    fn check(images: &Images, now: u64, want: Need) {
        assert_eq!(images.need(ID, Moment(now)), want, "at {now}");
    }

    #[test]
    fn a_failed_pull_backs_off_and_success_forgives() {
        let mut images = Images::default();
        check(&images, 0, Need::Fetch);
        images.begin(ID);
        check(&images, 0, Need::Pending);
        images.failed(ID, Trouble::Pull, String::new(), Moment(0), &Backoff::default());
        check(&images, 9_999, Need::Wait { until: Moment(10_000) });
        check(&images, 10_000, Need::Fetch);
        images.begin(ID);
        images.failed(ID, Trouble::Pull, String::new(), Moment(10_000), &Backoff::default());
        check(&images, 10_000, Need::Wait { until: Moment(30_000) });
        images.retry_pulls(Moment(11_000));
        check(&images, 11_000, Need::Fetch);
        images.begin(ID);
        images.ready(ID);
        check(&images, 30_000, Need::Ready);
    }

    #[test]
    fn an_answer_for_a_forgotten_image_changes_nothing() {
        let mut images = Images::default();
        images.begin(ID);
        images.forget(ID);
        images.ready(ID);
        check(&images, 0, Need::Fetch);
    }
}
