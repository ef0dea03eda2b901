//! HTTP components: a server in the pod's name, an instance of the guest per request.
//!
//! ```text
//! virtual network ── PodListener ──> connection (hyper) ── Requests::answer ──> guest task
//!                                        │                     │ admission, time limit, 5xx
//!                                  drain on stop               └ trap counter ──> exit of the container
//! ```
//! [`server`] owns listeners and connections, [`request`] one request and the guest that answers it.

mod egress;
mod request;
mod server;

pub(crate) use egress::Egress;
pub(crate) use request::Requests;
pub(crate) use server::HttpServer;
