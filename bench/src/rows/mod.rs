//! One module a group of figures.

pub mod density;
pub mod failover;
pub mod heartbeat;
pub mod idle;
pub mod latency;
pub mod scheduler;
pub mod sizes;

use std::time::Duration;

use serde_json::{Value, json};

/// What a condition may take before a figure counts as not measurable.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A line of the table.
pub struct Row {
    pub what: String,
    pub figure: String,
    /// From the design, section 10; empty where there is none.
    pub budget: String,
}

impl Row {
    pub fn new(what: impl Into<String>, figure: impl Into<String>, budget: impl Into<String>) -> Self {
        Self { what: what.into(), figure: figure.into(), budget: budget.into() }
    }
}

/// A pod that runs `hello`, which sleeps.
pub fn sleeper(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": image}]},
    })
}

pub fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

pub fn mib(kib: u64) -> String {
    format!("{:.1} MB", kib as f64 / 1024.0)
}
