//! Every bound of the wire, with the reason for its number.

/// Largest MQTT payload in bytes. Brokers differ (256 KB is accepted by every one we looked at),
/// so frames stay under it whatever the broker allows; the rest is room for the topic and properties.
pub const FRAME_MAX: usize = 255 * 1024;

/// MQTT packet limit handed to broker and clients: a frame plus its topic and properties.
pub const PACKET_MAX: u32 = 256 * 1024;

/// Bytes of a blob in one message: large enough that headers do not matter, small enough that
/// a chunk on a 50 KB/s link takes about a second.
pub const CHUNK: usize = 64 * 1024;

/// Bytes a stream may send before the other side grants more: one chunk in flight and one in work.
pub const STREAM_CREDIT: u32 = 2 * CHUNK as u32;

/// Largest piece of a stream in one message.
pub const STREAM_DATA_MAX: usize = 32 * 1024;

/// DNS label (RFC 1123), as Kubernetes asks of node names that are also host names.
pub const NAME_MAX: usize = 63;

/// Kubernetes' reason strings are CamelCase words; the longest in use has 45 letters.
pub const REASON_MAX: usize = 64;

/// A message that a person reads in `kubectl describe`; longer ones are cut with an ellipsis.
pub const MESSAGE_MAX: usize = 1024;

/// Pods of one node: what 10,000-line status reports and one address table stay comfortable with.
pub const PODS_PER_NODE_MAX: usize = 4096;

/// Shards of a node's report: with about 400 bytes a pod, 64 shards of 255 KB hold 40,000 pods.
pub const SHARDS_MAX: u8 = 64;

/// Seconds between two metrics messages, which are also the heartbeat (design section 5).
pub const HEARTBEAT_SECONDS: u64 = 5;
