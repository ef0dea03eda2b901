//! The shell around `edge-agent-core`: joins a hub, keeps the link, runs pods, remembers.
//!
//! ```text
//! args, config    what the user said             clock     the only reader of clocks
//! identity, join  who this node is               facts     what the machine is
//! link            MQTT: control and bulk         blobs     artifacts and bodies over it
//! ledger, files   what survives                  cache     compiled images on disk
//! agent           the loop that owns the state   engine    begins what the plan says
//! volumes, logs   what containers see and print  streams   logs to the hub
//! metrics         usage and heartbeat            renew     the certificate, in time
//! run             puts it together
//! ```
//! Read `run`, then `agent`. The control thread runs everything here on one tokio runtime; guests have
//! their own threads in `edge-agent-runtime`, so that no guest delays a heartbeat.

pub mod args;
pub mod clock;
pub mod config;
pub mod run;

pub mod agent;
pub mod blobs;
pub mod cache;
pub mod engine;
pub mod facts;
pub mod files;
pub mod identity;
pub mod join;
pub mod ledger;
pub mod link;
pub mod logs;
pub mod metrics;
pub mod renew;
pub mod streams;
pub mod volumes;
