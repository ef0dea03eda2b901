//! Outgoing HTTP: the one place where a guest's request would leave its pod.

use std::future::Future;

use http::{Request, Response};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Bytes of one write to an outgoing body that the host holds for the guest.
const CHUNK: usize = 64 << 10;

/// Refuses every request with `HTTP-request-denied`, which guests see as an error value: until Services exist, no
/// destination of an outgoing request is in the virtual network.
#[derive(Debug)]
pub(crate) struct Egress;

type Exchange = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Egress {
    fn send_request(
        &mut self,
        _request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Exchange> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}
