//! Byte streams with credit: logs now; exec, port-forward and HTTP later.
//!
//! The hub opens a stream under a random id. Each side sends at most the bytes it was granted;
//! whoever reads grants more. `Close` ends both directions. Unknown ids are answered with `Close`.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};
use crate::ids::{ContainerName, PodUid, UnixMillis};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamDown {
    Open {
        purpose: Purpose,
        credit: u32,
    },
    /// `sequence` counts the messages of this direction from 0, so that loss and doubling show.
    Data {
        sequence: u32,
        bytes: Vec<u8>,
    },
    Credit {
        bytes: u32,
    },
    Close {
        error: Option<String>,
    },
}

impl Message for StreamDown {
    const KIND: Kind = Kind::StreamDown;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamUp {
    Accepted { credit: u32 },
    Data { sequence: u32, bytes: Vec<u8> },
    Credit { bytes: u32 },
    Close { error: Option<String> },
}

impl Message for StreamUp {
    const KIND: Kind = Kind::StreamUp;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    Logs(LogsRequest),
}

/// `kubectl logs`, as the kubelet takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsRequest {
    pub pod: PodUid,
    pub container: ContainerName,
    pub previous: bool,
    pub follow: bool,
    pub timestamps: bool,
    /// Lines from the end; `None` = all that is kept.
    pub tail: Option<u64>,
    /// Only lines younger than this many seconds (the node's clock decides).
    pub since_seconds: Option<u64>,
    /// Only lines at or after this time.
    pub since: Option<UnixMillis>,
    pub limit_bytes: Option<u64>,
}
