//! Byte streams from nodes: `kubectl logs`, as the node has them.
//!
//! ```text
//!   open --Accepted, Data--> flowing --Close or offline--> ended
//!     |                        |  the reader takes bytes: the node is granted as many more
//!     +--10 s of silence--> error
//! ```
//! The node never sends more than it was granted, so a slow reader holds back its node, and a stream holds
//! at most that much memory. Messages are counted: a doubled one is dropped, a lost one ends the stream.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use protocol::limits::STREAM_CREDIT;
use protocol::stream::{LogsRequest, Purpose, StreamDown, StreamUp};
use protocol::topic::Leaf;
use protocol::{Generation, NodeName};
use tokio::sync::mpsc;
use tracing::debug;

use super::context::Context;
use crate::broker::Delivery;

/// A node opens its second connection for this: TLS over a bad link, and a disk that sleeps.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams at once: each may hold its credit in memory, so this is 128 MB at worst.
const STREAMS_MAX: usize = 1024;
/// Messages between the link and a stream's task, which drains them at once.
const QUEUE: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("node {node} is not connected")]
    Offline { node: NodeName },
    #[error("node {node} does not answer")]
    Silent { node: NodeName },
    #[error("{message}")]
    Refused { message: String },
    #[error("too many streams are open")]
    Busy,
    #[error("the connection to node {node} was lost")]
    Broken { node: NodeName },
}

/// A log as it comes; dropping it tells the node to stop.
pub struct LogStream(mpsc::Receiver<Result<Bytes, StreamError>>);

impl Stream for LogStream {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(poller)
    }
}

/// The open streams by id.
#[derive(Default)]
pub(super) struct Streams {
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    node: NodeName,
    messages: mpsc::Sender<StreamUp>,
}

/// Whether a message found its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Known,
    Unknown,
}

impl Streams {
    /// Hands a message to its stream. One that cannot take it has lost it, and so ends.
    pub(super) fn hear(&self, node: &NodeName, id: u64, message: StreamUp) -> Heard {
        let mut open = self.lock();
        let Some(stream) = open.get(&id).filter(|stream| stream.node == *node) else { return Heard::Unknown };
        if stream.messages.try_send(message).is_err() {
            open.remove(&id);
        }
        Heard::Known
    }

    /// The node is gone: its streams end with an error.
    pub(super) fn close_all_of(&self, node: &NodeName) {
        self.lock().retain(|_, stream| stream.node != *node);
    }

    fn open(&self, id: u64, node: &NodeName) -> Option<mpsc::Receiver<StreamUp>> {
        let mut open = self.lock();
        if open.len() >= STREAMS_MAX {
            return None;
        }
        let (messages, receiver) = mpsc::channel(QUEUE);
        open.insert(id, Open { node: node.clone(), messages });
        Some(receiver)
    }

    fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a node that a stream of its is nobody's, perhaps since before a restart of the hub.
pub(super) fn refuse(context: &Arc<Context>, node: &NodeName, id: u64) {
    let (context, node) = (context.clone(), node.clone());
    tokio::spawn(async move {
        let close = StreamDown::Close { error: Some("the stream is not open".to_owned()) };
        send(&context, &node, id, &close).await;
    });
}

/// A message that does not get out is a stream that ends by itself: the node is gone then.
async fn send(context: &Context, node: &NodeName, id: u64, message: &StreamDown) {
    let sent = context.send(node, Leaf::StreamDown(id), message, Generation(0), Delivery::AtLeastOnce).await;
    if let Err(error) = sent {
        debug!(%node, stream = id, error = &error as &dyn std::error::Error, "stream message not sent");
    }
}

pub(super) async fn logs(
    context: Arc<Context>,
    node: &NodeName,
    request: LogsRequest,
) -> Result<LogStream, StreamError> {
    if !context.nodes.with(node, |state| state.presence.is_online()) {
        return Err(StreamError::Offline { node: node.clone() });
    }
    let id = u64::from_be_bytes(context.objects.entropy().bytes());
    let messages = context.streams.open(id, node).ok_or(StreamError::Busy)?;
    let mut pump = Pump { context, node: node.clone(), id, messages, flow: Flow::default() };
    let open = StreamDown::Open { purpose: Purpose::Logs(request), credit: STREAM_CREDIT };
    send(&pump.context, node, id, &open).await;
    let first = tokio::time::timeout(OPEN_TIMEOUT, pump.messages.recv()).await;
    let first = match first {
        Ok(Some(first)) => first,
        Ok(None) => return Err(StreamError::Broken { node: node.clone() }),
        Err(_) => return Err(StreamError::Silent { node: node.clone() }),
    };
    if let StreamUp::Close { error: Some(message) } = first {
        return Err(StreamError::Refused { message });
    }
    // Two: one being written to the client, one ready.
    let (output, receiver) = mpsc::channel(2);
    tokio::spawn(async move { pump.run(first, output).await });
    Ok(LogStream(receiver))
}

/// One stream's task.
struct Pump {
    context: Arc<Context>,
    node: NodeName,
    id: u64,
    messages: mpsc::Receiver<StreamUp>,
    flow: Flow,
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.context.streams.forget(self.id);
    }
}

impl Pump {
    async fn run(mut self, first: StreamUp, output: mpsc::Sender<Result<Bytes, StreamError>>) {
        let mut step = self.flow.take(first);
        loop {
            match step {
                Step::Continue => {}
                Step::Ended(error) => {
                    return self.finish(output, error.map(|message| StreamError::Refused { message })).await;
                }
                Step::Broken => {
                    self.close().await;
                    let error = StreamError::Broken { node: self.node.clone() };
                    return self.finish(output, Some(error)).await;
                }
            }
            tokio::select! {
                message = self.messages.recv() => step = message.map_or(Step::Broken, |message| self.flow.take(message)),
                permit = output.reserve(), if !self.flow.pending.is_empty() => {
                    let Ok(permit) = permit else { return self.close().await };
                    let (bytes, credit) = self.flow.give();
                    permit.send(Ok(bytes));
                    if let Some(bytes) = credit {
                        send(&self.context, &self.node, self.id, &StreamDown::Credit { bytes }).await;
                    }
                    step = Step::Continue;
                }
                () = output.closed() => return self.close().await,
            }
        }
    }

    async fn close(&self) {
        send(&self.context, &self.node, self.id, &StreamDown::Close { error: None }).await;
    }

    /// What came before the end still reaches the reader; one that has left is no error.
    async fn finish(mut self, output: mpsc::Sender<Result<Bytes, StreamError>>, error: Option<StreamError>) {
        let (bytes, _) = self.flow.give();
        if !bytes.is_empty() && output.send(Ok(bytes)).await.is_err() {
            return;
        }
        if let Some(error) = error {
            let _ = output.send(Err(error)).await;
        }
    }
}

/// The arithmetic of one direction: order and credit.
struct Flow {
    next: u32,
    /// Bytes that the node may still send.
    granted: usize,
    /// Bytes given to the reader since the node was last granted more.
    given: usize,
    pending: BytesMut,
}

impl Default for Flow {
    fn default() -> Self {
        Self { next: 0, granted: STREAM_CREDIT as usize, given: 0, pending: BytesMut::new() }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Continue,
    /// The node has said everything, or why it cannot.
    Ended(Option<String>),
    /// Something was lost, or the node sends more than it may.
    Broken,
}

impl Flow {
    fn take(&mut self, message: StreamUp) -> Step {
        match message {
            // Granted for the other direction, which logs do not use.
            StreamUp::Accepted { .. } | StreamUp::Credit { .. } => Step::Continue,
            StreamUp::Close { error } => Step::Ended(error),
            StreamUp::Data { sequence, .. } if sequence < self.next => Step::Continue,
            StreamUp::Data { sequence, bytes } if sequence == self.next && bytes.len() <= self.granted => {
                self.next = self.next.wrapping_add(1);
                self.granted -= bytes.len();
                self.pending.extend_from_slice(&bytes);
                Step::Continue
            }
            StreamUp::Data { .. } => Step::Broken,
        }
    }

    /// Everything that waits, and how much more the node may send now: told in halves, not in drops.
    fn give(&mut self) -> (Bytes, Option<u32>) {
        let bytes = self.pending.split().freeze();
        self.given += bytes.len();
        if self.given < STREAM_CREDIT as usize / 2 {
            return (bytes, None);
        }
        let credit = std::mem::take(&mut self.given);
        self.granted += credit;
        (bytes, u32::try_from(credit).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(sequence: u32, bytes: usize) -> StreamUp {
        StreamUp::Data { sequence, bytes: vec![b'x'; bytes] }
    }

    #[test]
    fn doubled_messages_are_dropped_and_lost_ones_end_the_stream() {
        let mut flow = Flow::default();
        assert_eq!(flow.take(StreamUp::Accepted { credit: 0 }), Step::Continue);
        assert_eq!(flow.take(data(0, 3)), Step::Continue);
        assert_eq!(flow.take(data(0, 3)), Step::Continue);
        assert_eq!(flow.give(), (Bytes::from_static(b"xxx"), None));
        assert_eq!(flow.take(data(2, 3)), Step::Broken);
        assert_eq!(flow.take(StreamUp::Close { error: None }), Step::Ended(None));
    }

    #[test]
    fn a_node_sends_what_it_was_granted_and_no_more() {
        let half = STREAM_CREDIT as usize / 2;
        let mut flow = Flow::default();
        assert_eq!(flow.take(data(0, half)), Step::Continue);
        assert_eq!(flow.take(data(1, half)), Step::Continue);
        assert_eq!(flow.take(data(2, 1)), Step::Broken);
        let (bytes, credit) = flow.give();
        assert_eq!((bytes.len(), credit), (2 * half, Some(STREAM_CREDIT)));
        assert_eq!(flow.take(data(2, 1)), Step::Continue);
    }
}
