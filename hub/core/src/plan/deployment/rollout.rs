//! The arithmetic of rollouts. Every function changes the sets as planned and returns its steps.

use std::collections::BTreeMap;

use super::sets::{Resize, Set, Sets};
use super::{Step, Strategy, Wishes};

/// Grows the new ReplicaSet and shrinks the old ones, turn by turn, as far as the bounds allow now.
pub(super) fn rolling_update(wishes: &Wishes<'_>, sets: &mut Sets) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let turn = [grow_new(wishes, sets), shrink_old(wishes, sets)].concat();
        // Each turn moves a pod from old to new or ends: the numbers are finite.
        if turn.is_empty() {
            return steps;
        }
        steps.extend(turn);
    }
}

/// All old pods go, then all new ones come.
pub(super) fn recreate(wishes: &Wishes<'_>, sets: &mut Sets, running: &BTreeMap<String, usize>) -> Vec<Step> {
    let steps: Vec<Step> = sets.old.iter_mut().filter(|s| s.replicas > 0).filter_map(|s| s.scale(wishes, 0)).collect();
    let old_pods = sets.old.iter().any(|set| running.get(&set.name).is_some_and(|pods| *pods > 0));
    if !steps.is_empty() || old_pods {
        return steps;
    }
    match &mut sets.new {
        Some(new) if new.replicas == wishes.replicas => Vec::new(),
        Some(new) => new.scale(wishes, wishes.replicas).into_iter().collect(),
        None => sets.create(wishes, wishes.replicas),
    }
}

/// The Deployment has another size than its ReplicaSets were made for. Mid-rollout each of them
/// changes in proportion, so that a bad template gets no more than its share.
pub(super) fn resize(wishes: &Wishes<'_>, sets: &mut Sets) -> Vec<Step> {
    let mut steps = resize_once(wishes, sets);
    // The new sizes may leave the old ones superfluous: that is a second look, and the last.
    steps.extend(resize_once(wishes, sets));
    steps
}

fn resize_once(wishes: &Wishes<'_>, sets: &mut Sets) -> Vec<Step> {
    if let Some(only) = sets.active_or_latest() {
        return only.scale(wishes, wishes.replicas).into_iter().collect();
    }
    if is_saturated(wishes, sets.new.as_ref()) {
        return sets.old.iter_mut().filter(|s| s.replicas > 0).filter_map(|s| s.scale(wishes, 0)).collect();
    }
    match wishes.strategy {
        Strategy::RollingUpdate { .. } => resize_in_proportion(wishes, sets),
        Strategy::Recreate => Vec::new(),
    }
}

/// The new ReplicaSet is whole and available: the old ones have nothing more to do.
fn is_saturated(wishes: &Wishes<'_>, new: Option<&Set>) -> bool {
    new.is_some_and(|new| {
        new.replicas == wishes.replicas
            && new.desired_replicas() == Some(i64::from(wishes.replicas))
            && new.status.available == wishes.replicas
    })
}

fn resize_in_proportion(wishes: &Wishes<'_>, sets: &mut Sets) -> Vec<Step> {
    let allowed = if wishes.replicas > 0 { wishes.max_replicas() } else { 0 };
    let missing = allowed - sets.iter().filter(|set| set.replicas > 0).map(|set| set.replicas).sum::<i32>();
    let fallback = wishes.object.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    let mut given = 0;
    let mut sized: Vec<(i32, &mut Set)> = Vec::new();
    for set in sets.by_size(if missing > 0 { Resize::Grow } else { Resize::Shrink }) {
        let share = share(wishes, set, i64::from(fallback), missing, given);
        given += share;
        sized.push((set.replicas + share, set));
    }
    // Rounding leaves a rest; the largest takes it.
    if let Some((size, _)) = sized.first_mut() {
        *size = size.saturating_add(missing - given).max(0);
    }
    sized.into_iter().filter_map(|(size, set)| set.scale(wishes, size)).collect()
}

/// What one ReplicaSet gets of `missing` pods (negative: loses), of which `given` are given already.
fn share(wishes: &Wishes<'_>, set: &Set, status_replicas: i64, missing: i32, given: i32) -> i32 {
    if missing == 0 || missing == given {
        return 0;
    }
    let fraction = if wishes.replicas == 0 {
        -i64::from(set.replicas)
    } else {
        let before = set.max_replicas().unwrap_or(status_replicas).max(1);
        let size = i64::from(set.replicas).saturating_mul(i64::from(wishes.max_replicas()));
        // Rounded half up; sizes are never negative.
        size.saturating_mul(2).saturating_add(before).div_euclid(before.saturating_mul(2)) - i64::from(set.replicas)
    };
    let fraction = i32::try_from(fraction).unwrap_or(i32::MAX);
    if missing > 0 { fraction.min(missing - given) } else { fraction.max(missing - given) }
}

fn grow_new(wishes: &Wishes<'_>, sets: &mut Sets) -> Vec<Step> {
    let (total, present) = (sets.replicas(), sets.new.as_ref().map_or(0, |new| new.replicas));
    let room = (wishes.max_replicas() - total).max(0);
    let size = if present > wishes.replicas { wishes.replicas } else { present + room.min(wishes.replicas - present) };
    match &mut sets.new {
        Some(new) if new.replicas == size => Vec::new(),
        Some(new) => new.scale(wishes, size).into_iter().collect(),
        None => sets.create(wishes, size),
    }
}

fn shrink_old(wishes: &Wishes<'_>, sets: &mut Sets) -> Vec<Step> {
    let new_unavailable = sets.new.as_ref().map_or(0, Set::unavailable);
    let spare = sets.replicas() - wishes.min_available() - new_unavailable;
    if sets.old_replicas() == 0 || spare <= 0 {
        return Vec::new();
    }
    // First the pods that serve nobody: they cost nothing, and may be why the rollout is stuck.
    let mut steps = take(wishes, &mut sets.old, spare, Set::unavailable);
    let available: i32 = sets.iter().map(Set::available).sum();
    steps.extend(take(wishes, &mut sets.old, available - wishes.min_available(), |set| set.replicas));
    steps
}

/// Takes up to `most` pods off the sets, the oldest first, from each at most what `of` says.
fn take(wishes: &Wishes<'_>, sets: &mut [Set], mut most: i32, of: fn(&Set) -> i32) -> Vec<Step> {
    let mut steps = Vec::new();
    for set in sets.iter_mut().filter(|set| set.replicas > 0) {
        let taken = of(set).min(most);
        if taken > 0 {
            most -= taken;
            steps.extend(set.scale(wishes, set.replicas - taken));
        }
    }
    steps
}
