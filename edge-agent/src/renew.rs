//! Renews the node's certificate over MQTT, long before it runs out.
//!
//! Certificates last 90 days; from day 30 on the hub is asked for a new one, again every few hours, so
//! that a node which is off for weeks at a time still manages. The key stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::blobs::{Blobs, FetchError};
use crate::clock::Clock;
use crate::identity::{Identity, IdentityError};
use crate::join::mutual_tls;
use crate::link::chain;

/// A third of a certificate's life.
const RENEW_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Soon after the start, for nodes that never run long; then now and then.
const FIRST_LOOK: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("cannot ask for a certificate")]
    Ask(#[from] FetchError),
    #[error("the new certificate is of no use")]
    Use(#[from] IdentityError),
}

pub struct Renewal {
    pub identity: Identity,
    pub data_dir: PathBuf,
    pub clock: Clock,
    pub blobs: Blobs,
    /// What the link's next connection presents.
    pub tls: watch::Sender<Arc<rustls::ClientConfig>>,
    pub shutdown: CancellationToken,
}

impl Renewal {
    pub async fn run(mut self) {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = LOOK_EVERY,
                () = self.shutdown.cancelled() => return,
            }
            if !self.is_due() {
                continue;
            }
            match self.renew().await {
                Ok(()) => tracing::info!("the certificate was renewed"),
                Err(error) => tracing::warn!(error = %chain(&error), "cannot renew the certificate yet"),
            }
        }
    }

    fn is_due(&self) -> bool {
        let age = |certified: u64| Duration::from_millis(self.clock.trusted().0.saturating_sub(certified));
        self.identity.membership.as_ref().is_some_and(|member| age(member.certified_at.0) >= RENEW_AFTER)
    }

    async fn renew(&mut self) -> Result<(), RenewError> {
        let pem = self.blobs.certificate(self.identity.signing_request()?).await?;
        let Some(member) = &mut self.identity.membership else { return Ok(()) };
        let before = std::mem::replace(&mut member.answer.certificate, pem);
        match mutual_tls(&self.identity, &self.clock) {
            Ok(tls) => {
                if let Some(member) = &mut self.identity.membership {
                    member.certified_at = self.clock.trusted();
                }
                self.identity.store(&self.data_dir)?;
                self.tls.send_replace(Arc::new(tls));
                Ok(())
            }
            Err(error) => {
                if let Some(member) = &mut self.identity.membership {
                    member.answer.certificate = before;
                }
                Err(error.into())
            }
        }
    }
}
