//! Waiting for a condition, never for a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at: often enough for tests about milliseconds, rare enough to
/// leave a small machine its cores.
const PERIOD: Duration = Duration::from_millis(20);

/// Polls `look` until it has an answer.
///
/// # Errors
/// After `deadline`: what was waited for and, from `Err`s of `look`, why it was not there.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => String::new(),
            Err(error) => format!("; last: {error:#}"),
        };
        if start.elapsed() > deadline {
            bail!("waited {} s in vain for {what}{last}", deadline.as_secs_f32());
        }
        sleep(PERIOD);
    }
}

/// [`wait_for`] with a plain condition.
///
/// # Errors
/// As [`wait_for`].
pub fn eventually(what: &str, deadline: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, deadline, || Ok(holds()?.then_some(())))
}
