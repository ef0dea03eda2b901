//! Byte streams to the hub, each with credit: `kubectl logs`.
//!
//! The hub opens a stream and grants bytes; the agent sends what fits and waits for more. A stream
//! costs a task; their number is bounded, and one that nobody reads any more ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::logs::render;
use edge_agent_core::plan::At;
use protocol::frame;
use protocol::limits::STREAM_DATA_MAX;
use protocol::stream::{LogsRequest, Purpose, StreamDown, StreamUp};
use protocol::topic::Leaf;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::link::Outgoing;
use crate::logs::{ContainerLog, LogBook};

/// Streams at a time: more readers than one node's logs ever have, few enough to hold in memory.
const STREAMS: usize = 64;

/// Messages of the hub waiting for one stream.
const WAITING: usize = 16;

/// Without credit for this long, the reader is gone.
const READER_PATIENCE: Duration = Duration::from_secs(60);

/// The open streams of this node. One task owns it: the reader of the bulk topics.
pub struct Streams {
    logs: LogBook,
    clock: Clock,
    out: mpsc::Sender<Outgoing>,
    open: HashMap<u64, mpsc::Sender<StreamDown>>,
}

impl Streams {
    pub fn new(logs: LogBook, clock: Clock, out: mpsc::Sender<Outgoing>) -> Self {
        Self { logs, clock, out, open: HashMap::new() }
    }

    /// Takes a verified message of the hub.
    pub fn deliver(&mut self, id: u64, message: StreamDown) {
        self.open.retain(|_, stream| !stream.is_closed());
        match message {
            StreamDown::Open { purpose: Purpose::Logs(request), credit } => self.open_logs(id, request, credit),
            StreamDown::Close { .. } => drop(self.open.remove(&id)),
            StreamDown::Data { .. } | StreamDown::Credit { .. } => match self.open.get(&id) {
                // A full queue means a hub that ignores what it granted.
                Some(stream) => drop(stream.try_send(message)),
                None => self.refuse(id, "there is no such stream"),
            },
        }
    }

    fn open_logs(&mut self, id: u64, request: LogsRequest, credit: u32) {
        if self.open.contains_key(&id) {
            return;
        }
        if self.open.len() >= STREAMS {
            return self.refuse(id, "the node has too many open streams");
        }
        let at = At { pod: request.pod, container: request.container.clone() };
        let page = self.logs.page(&at);
        let log = match (page, request.previous) {
            (Some(page), false) => Some(page.current),
            (Some(page), true) => page.previous,
            (None, _) => None,
        };
        let Some(log) = log else {
            let message = if request.previous {
                format!("previous terminated container \"{}\" not found", at.container)
            } else {
                format!("container \"{}\" is waiting to start", at.container)
            };
            return self.refuse(id, &message);
        };
        let (down, messages) = mpsc::channel(WAITING);
        self.open.insert(id, down);
        let stream = Stream { id, out: self.out.clone(), messages, credit, sequence: 0, left: request.limit_bytes };
        tokio::spawn(serve(stream, log, request, self.clock.clone()));
    }

    fn refuse(&self, id: u64, message: &str) {
        let message = StreamUp::Close { error: Some(message.to_owned()) };
        // Lost if the queue is full: the hub's own patience ends the stream.
        let _ = self.out.try_send(outgoing(id, &message));
    }
}

fn outgoing(id: u64, message: &StreamUp) -> Outgoing {
    let payload = frame::encode(message).expect("a piece of a stream is smaller than a frame");
    Outgoing { leaf: Leaf::StreamUp(id), payload }
}

struct Stream {
    id: u64,
    out: mpsc::Sender<Outgoing>,
    messages: mpsc::Receiver<StreamDown>,
    credit: u32,
    sequence: u32,
    /// Of `--limit-bytes`.
    left: Option<u64>,
}

/// The other side has closed, or is gone.
struct Gone;

async fn serve(mut stream: Stream, log: Arc<ContainerLog>, request: LogsRequest, clock: Clock) {
    // The other direction carries nothing; credit for it would be a promise to read.
    let accepted = outgoing(stream.id, &StreamUp::Accepted { credit: 0 });
    if stream.out.send(accepted).await.is_ok() && copy(&mut stream, &log, &request, &clock).await.is_ok() {
        let _ = stream.out.send(outgoing(stream.id, &StreamUp::Close { error: None })).await;
    }
}

async fn copy(stream: &mut Stream, log: &ContainerLog, request: &LogsRequest, clock: &Clock) -> Result<(), Gone> {
    let mut next = log.ring().start(request, clock.now().wall);
    loop {
        let changed = log.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        // Asked before the lines are read: what is printed in between belongs to the end.
        let ended = log.has_ended();
        loop {
            let (piece, after) = piece(log, next, request.timestamps);
            if after == next {
                break;
            }
            next = after;
            stream.send(&piece).await?;
            if stream.left == Some(0) {
                return Ok(());
            }
        }
        if ended || !request.follow {
            return Ok(());
        }
        tokio::select! {
            () = &mut changed => {}
            message = stream.messages.recv() => stream.take(message)?,
        }
    }
}

/// Some lines, about as many as go into one message, and the number of the line after them.
fn piece(log: &ContainerLog, from: u64, timestamps: bool) -> (Vec<u8>, u64) {
    let mut piece = Vec::new();
    let mut next = from;
    for line in log.ring().from(from) {
        render(line, timestamps, &mut piece);
        next = line.number + 1;
        if piece.len() >= STREAM_DATA_MAX {
            break;
        }
    }
    (piece, next)
}

impl Stream {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let allowed = usize::try_from(self.left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let mut rest = &bytes[..bytes.len().min(allowed)];
        self.left = self.left.map(|left| left - rest.len() as u64);
        while !rest.is_empty() {
            while self.credit == 0 {
                let message = tokio::time::timeout(READER_PATIENCE, self.messages.recv()).await;
                self.take(message.map_err(|_| Gone)?)?;
            }
            let fits = usize::try_from(self.credit).unwrap_or(usize::MAX).min(STREAM_DATA_MAX);
            let (now, later) = rest.split_at(rest.len().min(fits));
            let message = StreamUp::Data { sequence: self.sequence, bytes: now.to_vec() };
            self.out.send(outgoing(self.id, &message)).await.map_err(|_| Gone)?;
            self.sequence = self.sequence.wrapping_add(1);
            self.credit = self.credit.saturating_sub(u32::try_from(now.len()).unwrap_or(u32::MAX));
            rest = later;
        }
        Ok(())
    }

    fn take(&mut self, message: Option<StreamDown>) -> Result<(), Gone> {
        match message {
            Some(StreamDown::Credit { bytes }) => {
                self.credit = self.credit.saturating_add(bytes);
                Ok(())
            }
            Some(StreamDown::Data { .. } | StreamDown::Open { .. }) => Ok(()),
            Some(StreamDown::Close { .. }) | None => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_agent_runtime::{LogSink as _, LogStream};
    use protocol::{PodUid, UnixMillis};

    struct Hub {
        streams: Streams,
        book: LogBook,
        from_node: mpsc::Receiver<Outgoing>,
    }

    fn at() -> At {
        At { pod: PodUid([1; 16]), container: "c".parse().unwrap() }
    }

    fn hub() -> Hub {
        let clock = Clock::system(UnixMillis(0)).unwrap();
        let (out, from_node) = mpsc::channel(64);
        let book = LogBook::new(clock.clone());
        Hub { streams: Streams::new(book.clone(), clock, out), book, from_node }
    }

    fn open(follow: bool, previous: bool, credit: u32) -> StreamDown {
        let request = LogsRequest {
            pod: at().pod,
            container: at().container,
            previous,
            follow,
            timestamps: false,
            tail: None,
            since_seconds: None,
            since: None,
            limit_bytes: None,
        };
        StreamDown::Open { purpose: Purpose::Logs(request), credit }
    }

    impl Hub {
        async fn next(&mut self) -> String {
            let message = tokio::time::timeout(Duration::from_secs(5), self.from_node.recv()).await;
            let payload = message.expect("an answer in time").expect("an open channel").payload;
            match frame::Frame::parse(&payload).unwrap().body().unwrap() {
                StreamUp::Accepted { .. } => "accepted".into(),
                StreamUp::Data { bytes, .. } => String::from_utf8(bytes).unwrap(),
                StreamUp::Credit { bytes } => format!("credit {bytes}"),
                StreamUp::Close { error } => format!("close {}", error.unwrap_or_default()),
            }
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_sent_and_the_stream_ends() {
        let mut hub = hub();
        hub.book.begin(&at()).write(LogStream::Stdout, b"old\n");
        hub.book.begin(&at()).write(LogStream::Stdout, b"one\ntwo\n");
        hub.streams.deliver(1, open(false, false, 1000));
        assert_eq!([hub.next().await, hub.next().await, hub.next().await], ["accepted", "one\ntwo\n", "close "]);
        hub.streams.deliver(2, open(false, true, 1000));
        assert_eq!([hub.next().await, hub.next().await, hub.next().await], ["accepted", "old\n", "close "]);
    }

    #[tokio::test]
    async fn a_follower_sees_new_lines_until_the_run_ends() {
        let mut hub = hub();
        let log = hub.book.begin(&at());
        hub.streams.deliver(1, open(true, false, 1000));
        assert_eq!(hub.next().await, "accepted");
        log.write(LogStream::Stdout, b"one\n");
        assert_eq!(hub.next().await, "one\n");
        log.write(LogStream::Stdout, b"last");
        log.finish();
        assert_eq!([hub.next().await, hub.next().await], ["last", "close "]);
    }

    #[tokio::test]
    async fn nothing_is_sent_beyond_the_credit() {
        let mut hub = hub();
        hub.book.begin(&at()).write(LogStream::Stdout, b"123456\n");
        hub.streams.deliver(1, open(false, false, 4));
        assert_eq!([hub.next().await, hub.next().await], ["accepted", "1234"]);
        tokio::task::yield_now().await;
        assert!(hub.from_node.try_recv().is_err());
        hub.streams.deliver(1, StreamDown::Credit { bytes: 100 });
        assert_eq!([hub.next().await, hub.next().await], ["56\n", "close "]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_told() {
        let mut hub = hub();
        hub.streams.deliver(1, open(false, false, 4));
        assert_eq!(hub.next().await, "close container \"c\" is waiting to start");
        hub.book.begin(&at());
        hub.streams.deliver(2, open(false, true, 4));
        assert_eq!(hub.next().await, "close previous terminated container \"c\" not found");
        hub.streams.deliver(3, StreamDown::Credit { bytes: 1 });
        assert_eq!(hub.next().await, "close there is no such stream");
    }
}
