//! Wires the hub together, and takes it down in order.

use crate::config::Config;

/// Why the hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {}

/// Runs a hub until SIGTERM or SIGINT.
///
/// # Errors
/// What kept the hub from starting, with the way out.
pub async fn run(_config: Config) -> Result<(), ServeError> {
    unimplemented!()
}
