//! An HTTP server with a fresh instance for each request.
//!
//! ```text
//! GET  /              which pod answers
//! GET  /healthz       ok
//! POST /echo          the body, streamed back
//! GET  /burn?ms=100   keeps a core busy that long
//! GET  /slow?ms=1000  answers late
//! GET  /env?name=X    one environment variable (404 if it is not set)
//! GET  /file?path=X   a file (404 if it cannot be read)
//! GET  /bytes?n=1000  so many bytes
//! GET  /trap          traps
//! GET  /count         requests this instance has answered: 1 unless instances are reused
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use wasip2::http::types::{Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(Web);

struct Web;

static ANSWERED: AtomicU64 = AtomicU64::new(0);

impl wasip2::exports::http::incoming_handler::Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        ANSWERED.fetch_add(1, Ordering::Relaxed);
        let target = request.path_with_query().unwrap_or_else(|| "/".into());
        let (path, query) = target.split_once('?').unwrap_or((target.as_str(), ""));
        match path {
            "/" => {
                let me = std::env::var("HOSTNAME").unwrap_or_else(|_| "a pod".into());
                answer(out, 200, format!("hello from {me}\n").as_bytes());
            }
            "/healthz" => answer(out, 200, b"ok\n"),
            "/echo" => echo(&request, out),
            "/burn" => {
                let rounds = burn(Duration::from_millis(number(query, "ms", 100)));
                answer(out, 200, format!("burnt {rounds} rounds\n").as_bytes());
            }
            "/slow" => {
                sleep(Duration::from_millis(number(query, "ms", 1000)));
                answer(out, 200, b"at last\n");
            }
            "/env" => {
                found(out, parameter(query, "name").and_then(|name| std::env::var(name).ok()).map(String::into_bytes))
            }
            "/file" => found(out, parameter(query, "path").and_then(|path| std::fs::read(path).ok())),
            "/bytes" => bytes(out, number(query, "n", 1000)),
            "/trap" => std::process::abort(),
            "/count" => answer(out, 200, format!("{}\n", ANSWERED.load(Ordering::Relaxed)).as_bytes()),
            _ => answer(out, 404, b"no such path\n"),
        }
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn number(query: &str, name: &str, default: u64) -> u64 {
    parameter(query, name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Work that the optimiser cannot remove: counts how often it went round.
fn burn(time: Duration) -> u64 {
    let (start, mut rounds, mut value) = (Instant::now(), 0u64, 1u64);
    while start.elapsed() < time {
        for _ in 0..10_000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        rounds += 1;
    }
    rounds
}

fn found(out: ResponseOutparam, content: Option<Vec<u8>>) {
    match content {
        Some(content) => answer(out, 200, &content),
        None => answer(out, 404, b"not there\n"),
    }
}

fn respond(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let fields = Fields::new();
    let _ = fields.append("content-type", b"text/plain; charset=utf-8");
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a status of three digits");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn answer(out: ResponseOutparam, status: u16, content: &[u8]) {
    let body = respond(out, status);
    // A client that hung up is not an error of ours.
    let _ = send(&body, content);
    let _ = OutgoingBody::finish(body, None);
}

fn send(body: &OutgoingBody, content: &[u8]) -> Result<(), StreamError> {
    let stream = body.write().expect("the stream is taken once at a time");
    content.chunks(4096).try_for_each(|piece| stream.blocking_write_and_flush(piece))
}

fn bytes(out: ResponseOutparam, mut left: u64) {
    let body = respond(out, 200);
    let stream = body.write().expect("the stream is taken once");
    while left > 0 {
        let now = usize::try_from(left.min(4096)).unwrap_or(4096);
        if stream.blocking_write_and_flush(&[b'x'; 4096][..now]).is_err() {
            break;
        }
        left -= now as u64;
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("the body is consumed once");
    let from = incoming.stream().expect("the stream is taken once");
    let body = respond(out, 200);
    let to = body.write().expect("the stream is taken once");
    while let Ok(piece) = from.blocking_read(4096) {
        if piece.chunks(4096).any(|part| to.blocking_write_and_flush(part).is_err()) {
            break;
        }
    }
    drop((to, from));
    let _ = IncomingBody::finish(incoming);
    let _ = OutgoingBody::finish(body, None);
}
