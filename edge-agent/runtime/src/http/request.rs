//! One request, and the guest that answers it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use crate::exit::{Exit, trap_message};
use crate::instance::{Control, Guests, Run};
use crate::logs::LogStream;
use crate::state::{State, Template};

/// Requests in guests at a time, each with memory of its own.
const CONCURRENT_MAX: usize = 64;

/// How long a request waits for its turn before it is refused with 503.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);

/// A guest that has not begun to answer by then is killed and the client told 504. Kubernetes has no such limit;
/// a guest that hangs would hold its memory for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a guest may work on after its answer is delivered, or its client gone.
const AFTERWORK: Duration = Duration::from_secs(10);

/// Requests in a row that fail before the container ends: a guest in a state that it cannot leave.
const FAILURES_IN_A_ROW: u32 = 5;

pub(crate) type Body = UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>;
type Head = Result<Response<Body>, ErrorCode>;

/// An instance that may serve again.
struct Warm {
    store: Store<State>,
    proxy: Option<Arc<Proxy>>,
    served: u32,
}

/// Everything that the requests of one container share.
pub(crate) struct Requests {
    template: Template,
    proxy: ProxyPre<State>,
    run: Arc<Run>,
    guests: Guests,
    admission: Arc<Semaphore>,
    /// Instances between two requests; at most as many as can be admitted.
    warm: Mutex<Vec<Warm>>,
    running: Mutex<JoinSet<()>>,
    failures: AtomicU32,
    given_up: watch::Sender<Option<Exit>>,
}

/// Why a guest did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("the request names no host")]
    BadRequest,
    #[error("this pod has no room for another request")]
    Overloaded,
    #[error("the guest did not begin to answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the guest failed: {0}")]
    Trapped(String),
    #[error("the guest returned without an answer")]
    Silent,
    #[error("the guest answered with an error: {0}")]
    Guest(String),
    #[error("the pod is stopping")]
    Cut,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Overloaded | Self::Cut => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Trapped(_) | Self::Silent | Self::Guest(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether it says that this guest cannot serve.
    fn is_the_guests(&self) -> bool {
        match self {
            Self::Trapped(_) | Self::Silent | Self::TimedOut => true,
            Self::BadRequest | Self::Overloaded | Self::Guest(_) | Self::Cut => false,
        }
    }
}

impl Requests {
    pub(crate) fn new(template: Template, proxy: ProxyPre<State>, run: Arc<Run>, guests: Guests) -> Arc<Self> {
        Arc::new(Self {
            template,
            proxy,
            run,
            guests,
            admission: Arc::new(Semaphore::new(CONCURRENT_MAX)),
            warm: Mutex::default(),
            running: Mutex::default(),
            failures: AtomicU32::new(0),
            given_up: watch::Sender::new(None),
        })
    }

    pub(crate) fn control(&self) -> Arc<Control> {
        self.run.control.clone()
    }

    /// Resolves when the guest has failed too often to go on.
    pub(crate) async fn given_up(&self) -> Exit {
        let mut given_up = self.given_up.subscribe();
        let exit = given_up.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        exit.unwrap_or_else(Exit::killed)
    }

    /// Ends every guest and waits until they are gone.
    pub(crate) async fn shutdown(&self) {
        let mut running = std::mem::take(&mut *self.running.lock().expect("no code panics while it holds the tasks"));
        running.shutdown().await;
        self.warm.lock().expect("no code panics while it holds the instances").clear();
    }

    /// Answers for the guest if the guest does not.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        match self.clone().serve(request).await {
            Ok(response) => {
                self.run.requests.fetch_add(1, Ordering::Relaxed);
                response
            }
            Err(failure) => {
                self.run.requests.fetch_add(1, Ordering::Relaxed);
                if failure.status().is_server_error() {
                    self.run.failed.fetch_add(1, Ordering::Relaxed);
                    let line = format!("wherry: {failure}\n");
                    self.template.config.log.write(LogStream::Stderr, line.as_bytes());
                }
                refusal(&failure)
            }
        }
    }

    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let admission = self.admission.clone().acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(ADMISSION_TIMEOUT, admission).await else {
            return Err(Failure::Overloaded);
        };
        let mut warm = self.instance()?;
        let (head, answered, callback) = head();
        // The client's side: gone when the connection or the response's body is.
        let (client, gone) = oneshot::channel::<Infallible>();
        let mut view = warm.store.data_mut().http();
        let incoming = view.new_incoming_request(Scheme::Http, request).map_err(|_| Failure::BadRequest)?;
        let outparam = view
            .new_response_outparam_from_callback(callback)
            .map_err(|error| Failure::Trapped(trap_message(&error)))?;

        let (done, outcome) = oneshot::channel();
        let own = self.clone();
        let work = async move {
            let call = own.run.metered(&own.guests, call(&own.proxy, warm, incoming, outparam));
            let outcome = tokio::select! {
                biased;
                _ = own.run.control.wait_cut() => Err(Failure::Cut),
                () = overdue(&answered, gone) => Err(Failure::TimedOut),
                result = call => match result {
                    Ok(_) if !answered.load(Ordering::Relaxed) => Err(Failure::Silent),
                    result => result,
                },
            };
            let outcome = own.judge(outcome);
            drop(permit);
            // Nobody waits for it once the head is out.
            drop(done.send(outcome));
        };
        self.track(work);

        match head.await {
            Ok(Ok(response)) => Ok(response.map(|body| hold(body, client))),
            Ok(Err(code)) => Err(Failure::Guest(format!("{code:?}"))),
            // The guest is gone without an answer; its outcome says why.
            Err(_) => Err(outcome.await.unwrap_or(Ok(())).err().unwrap_or(Failure::Silent)),
        }
    }

    /// A warm instance, or what a fresh one is made from.
    fn instance(&self) -> Result<Warm, Failure> {
        if let Some(warm) = self.warm.lock().expect("no code panics while it holds the instances").pop() {
            return Ok(warm);
        }
        let store = self.template.store(&self.run.control).map_err(|error| Failure::Trapped(error.to_string()))?;
        Ok(Warm { store, proxy: None, served: 0 })
    }

    /// Runs `work` on the guests' threads, to be ended with the container.
    fn track(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock().expect("no code panics while it holds the tasks");
        while running.try_join_next().is_some() {}
        running.spawn_on(work, &self.guests.threads);
    }

    /// Keeps the instance for another request or counts the failure.
    fn judge(&self, outcome: Result<Warm, Failure>) -> Result<(), Failure> {
        match outcome {
            Ok(warm) => {
                self.failures.store(0, Ordering::Relaxed);
                if warm.served < self.template.config.instance_reuse {
                    self.warm.lock().expect("no code panics while it holds the instances").push(warm);
                }
                Ok(())
            }
            Err(failure) => {
                if failure.is_the_guests() {
                    let count = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                    if count == FAILURES_IN_A_ROW {
                        let exit = Exit::of_server(count, &failure.to_string(), self.run.memory());
                        self.given_up.send_replace(Some(exit));
                    }
                }
                Err(failure)
            }
        }
    }
}

/// Calls the guest once. An instance that fails is not used again.
async fn call(
    proxy: &ProxyPre<State>,
    mut warm: Warm,
    request: Resource<HostIncomingRequest>,
    outparam: Resource<HostResponseOutparam>,
) -> Result<Warm, Failure> {
    let trapped = |error: wasmtime::Error| Failure::Trapped(trap_message(&error));
    let instance = match warm.proxy.take() {
        Some(instance) => instance,
        None => Arc::new(proxy.instantiate_async(&mut warm.store).await.map_err(trapped)?),
    };
    let handler = instance.wasi_http_incoming_handler();
    handler.call_handle(&mut warm.store, request, outparam).await.map_err(trapped)?;
    warm.proxy = Some(instance);
    warm.served += 1;
    Ok(warm)
}

/// The way of a response's head from guest to connection, and whether it has been gone.
fn head() -> (oneshot::Receiver<Head>, Arc<AtomicBool>, impl FnOnce(Head) + Send + Sync + 'static) {
    let (sender, receiver) = oneshot::channel();
    let answered = Arc::new(AtomicBool::new(false));
    let flag = answered.clone();
    let callback = move |head| {
        flag.store(true, Ordering::Relaxed);
        // A client that is gone needs no answer.
        drop(sender.send(head));
    };
    (receiver, answered, callback)
}

/// Resolves when the guest has had its time: to begin an answer, or to work on after it.
async fn overdue(answered: &AtomicBool, mut gone: oneshot::Receiver<Infallible>) {
    tokio::select! {
        _ = &mut gone => {}
        () = tokio::time::sleep(ANSWER_TIMEOUT) => {
            if !answered.load(Ordering::Relaxed) {
                return;
            }
            // A stream may last as long as somebody reads it.
            drop(gone.await);
        }
    }
    tokio::time::sleep(AFTERWORK).await;
}

/// A body that tells, by dropping `client`, when nobody reads it any more.
fn hold(body: Body, client: oneshot::Sender<Infallible>) -> Body {
    body.map_frame(move |frame| {
        let _held = &client;
        frame
    })
    .boxed_unsync()
}

fn refusal(failure: &Failure) -> Response<Body> {
    let text = Full::new(Bytes::from(format!("{failure}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(text);
    *response.status_mut() = failure.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Failure, status: u16, is_the_guests: bool) {
        assert_eq!(failure.status().as_u16(), status, "{failure:?}");
        assert_eq!(failure.is_the_guests(), is_the_guests, "{failure:?}");
    }

    #[test]
    fn failures_have_a_status_and_an_owner() {
        check(Failure::BadRequest, 400, false);
        check(Failure::Overloaded, 503, false);
        check(Failure::Cut, 503, false);
        check(Failure::TimedOut, 504, true);
        check(Failure::Trapped("unreachable".into()), 500, true);
        check(Failure::Silent, 500, true);
        check(Failure::Guest("internal error".into()), 500, false);
    }
}
