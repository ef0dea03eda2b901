//! The hub's shell around `hub-core`.
//!
//! ```text
//! serve        wires everything together, and takes it down in order
//! config       flags, environment and file -> one validated Config
//! clock        the only place that reads a clock        pki       CA, certificates, tokens, sealing
//! objects      the API machine's verbs, without HTTP     api       the same verbs over HTTPS
//! registry     images by digest, OCI distribution        compiler  worker processes, artifact cache
//! broker       the embedded MQTT broker                  fleet     what passes between hub and nodes
//! controllers  one queue, a pure plan and a dull executor each
//! ```

pub mod api;
pub mod broker;
pub mod clock;
pub mod compiler;
pub mod config;
pub mod controllers;
pub mod fleet;
pub mod objects;
pub mod pki;
pub mod registry;
pub mod serve;
