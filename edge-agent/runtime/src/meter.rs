//! CPU time: the ticker that interrupts guests, and the meter that bills them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::Engine;

/// A guest that spins gives way after one to two ticks; also the resolution of a kill.
const TICK: Duration = Duration::from_millis(10);

/// Ticks without any guest on a CPU before the ticker goes to sleep. Waking it costs about 10 us.
const LINGER: u32 = 5;

/// Advances the engine's epoch, only while some guest is inside a poll: an idle node has no periodic wake-up.
///
/// A thread and not a task: tasks wait for the very guests that it must interrupt.
#[derive(Debug)]
pub(crate) struct Ticker {
    running: AtomicUsize,
    parked: AtomicBool,
    closed: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    /// # Errors
    /// A thread that cannot be had.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let own = ticker.clone();
        // It only sleeps and counts.
        let builder = std::thread::Builder::new().name("epoch".into()).stack_size(64 << 10);
        let handle = builder.spawn(move || own.run(&engine))?;
        // A guest that enters before this line finds no thread to wake, and finds it awake.
        drop(ticker.thread.set(handle.thread().clone()));
        Ok(ticker)
    }

    fn run(&self, engine: &Engine) {
        let mut idle = 0;
        loop {
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > LINGER {
                if self.closed.load(Ordering::SeqCst) {
                    return;
                }
                self.park();
                idle = 0;
            }
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    }

    fn park(&self) {
        loop {
            // Set again after every wake: whoever woke us has taken it.
            self.parked.store(true, Ordering::SeqCst);
            if self.running.load(Ordering::SeqCst) != 0 || self.closed.load(Ordering::SeqCst) {
                break;
            }
            std::thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    /// No more guests will come; the thread ends once those that run have ended.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn enter(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.parked.load(Ordering::SeqCst)
            && self.parked.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn leave(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// CPU time that a container's guests have used.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    nanos: AtomicU64,
}

impl Meter {
    pub(crate) fn micros(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed) / 1000
    }
}

/// A guest's future. Each poll is billed with the thread's CPU time, host calls on the guest's behalf included, and
/// keeps the ticker awake. A CPU quota gates here, before the poll.
pub(crate) struct Metered<F> {
    guest: Pin<Box<F>>,
    meter: Arc<Meter>,
    ticker: Arc<Ticker>,
}

impl<F: Future> Metered<F> {
    pub(crate) fn new(guest: F, meter: Arc<Meter>, ticker: Arc<Ticker>) -> Self {
        Self { guest: Box::pin(guest), meter, ticker }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.ticker.enter();
        let before = thread_cpu_nanos();
        let result = self.guest.as_mut().poll(cx);
        self.meter.nanos.fetch_add(thread_cpu_nanos().saturating_sub(before), Ordering::Relaxed);
        self.ticker.leave();
        result
    }
}

fn thread_cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}
