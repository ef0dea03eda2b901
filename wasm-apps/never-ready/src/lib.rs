//! Answers every request with 503.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(NeverReady);

struct NeverReady;

impl wasip2::exports::http::incoming_handler::Guest for NeverReady {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(503).expect("a status of three digits");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        // A prober that hung up is not an error of ours.
        let _ = body.write().expect("the stream is taken once").blocking_write_and_flush(b"not ready\n");
        let _ = OutgoingBody::finish(body, None);
    }
}
