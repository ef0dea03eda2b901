//! What the hub knows and decides, without doing anything.
//!
//! ```text
//! object    one API object: JSON with accessors        status    API errors as clients read them
//! kinds     the table of resource kinds, a row each     selector  by labels and by fields
//! quantity, time, name                                  the texts that fields are written in
//! admission                                           create, update, delete: from request to store
//! body      JSON bodies, duplicates and depth            patch     json, merge and strategic patches
//! schema    field types: strict checks, normal form      protobuf  request bodies of typed clients
//! discovery, openapi                                    what kubectl asks before anything else
//! printing                                              tables, and metadata alone
//! plan      controllers' decisions: deployment, replicaset, node health, garbage, namespace, events
//! schedule  which node a pod goes to, and why not the others
//! assign    Pod -> what its node is told                fold      what a node said -> status
//! fleet     what is heard from nodes, and when to speak to them
//! ```
//! No I/O, no clock, no randomness: `now` and random numbers are arguments.

pub mod object;
pub mod plan;
pub mod schedule;
pub mod status;

pub mod admission;
pub mod assign;
pub mod fleet;
pub mod fold;
pub mod kinds;

pub mod body;
pub mod discovery;
pub mod name;
pub mod openapi;
pub mod patch;
pub mod printing;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod time;
