//! Hubs, agents, brokers and kubectl as real processes: what the demo, the end-to-end tests and the
//! benchmarks start, watch and kill.
//!
//! ```text
//! binaries  where hub, edge-agent, hub-compiler and the guests were built
//! process   a child that never outlives its owner         wait     conditions with a deadline
//! cluster   a hub and its agents in a folder of their own  kubectl  the real client, found or fetched
//! ```

pub mod binaries;
pub mod cluster;
pub mod kubectl;
pub mod process;
pub mod wait;

pub use binaries::Binaries;
pub use cluster::{Agent, AgentOptions, Cluster, Hub, HubOptions};
pub use kubectl::Kubectl;
pub use wait::{eventually, wait_for};
