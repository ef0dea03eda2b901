//! Which incarnation of a hub this is: kept in the store, raised only by a restore.

use std::sync::Arc;
use std::time::Duration;

use hub_core::fleet::epoch::{Own, restore as above};
use hub_store::{Backend, Expect, Op, Revision, Store as _, StoreError, Write};
use protocol::{Epoch, Stamp};
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::context::Context;
use crate::clock::Entropy;

const KEY: &str = "/wherry/epoch";
/// Between attempts where the store does not take a restored epoch.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    #[error("cannot read or keep the hub's epoch")]
    Store(#[from] StoreError),
    #[error("the store holds no valid epoch")]
    Parse(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    counter: u64,
    id: u64,
}

/// The store's epoch; a new store's is the first.
pub(super) async fn load(store: &Backend, entropy: &Entropy) -> Result<Epoch, EpochError> {
    if let Some(entry) = store.get(KEY)? {
        let stored: Stored = serde_json::from_slice(&entry.value).map_err(EpochError::Parse)?;
        return Ok(Epoch { counter: stored.counter, id: stored.id });
    }
    let epoch = Epoch { counter: 1, id: u64::from_be_bytes(entropy.bytes()) };
    keep(store, epoch).await?;
    Ok(epoch)
}

async fn keep(store: &Backend, epoch: Epoch) -> Result<Revision, EpochError> {
    let value = serde_json::to_vec(&Stored { counter: epoch.counter, id: epoch.id }).map_err(EpochError::Parse)?;
    Ok(store.commit(vec![Op::Put { key: KEY.to_owned(), value, expect: Expect::Anything }], Write::Durable).await?)
}

/// After a restore: listens, then goes on above everything that was heard, and again whenever a node
/// turns up that has heard more.
pub(super) async fn restore(context: Arc<Context>, listen: Duration) {
    context.world.synced().await;
    info!(seconds = listen.as_secs(), "restored: listening to the nodes first");
    tokio::time::sleep(listen).await;
    let mut first = true;
    loop {
        let heard = applied(&context);
        let own = context.own();
        let is_behind = heard.iter().any(|stamp| stamp.epoch > own.epoch);
        if first || is_behind {
            match raise(&context, own, heard).await {
                Ok(epoch) => {
                    info!(epoch = epoch.counter, "restored: goes on above what its nodes have heard");
                    context.restored(epoch);
                    first = false;
                }
                Err(error) => error!(error = &error as &dyn std::error::Error, "cannot keep the restored epoch"),
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn applied(context: &Context) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    context.nodes.with_each(|state| stamps.extend(state.applied));
    stamps
}

/// The revision first: once the epoch is kept, nothing below may be published under it.
async fn raise(context: &Context, own: Own, heard: Vec<Stamp>) -> Result<Epoch, EpochError> {
    let random = u64::from_be_bytes(context.objects.entropy().bytes());
    let restored = above(own, heard, random);
    context.store().advance(Revision(restored.revision)).await?;
    keep(context.store(), restored.epoch).await?;
    Ok(restored.epoch)
}
