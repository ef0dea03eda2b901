//! One run of the worker: a child process that reads a module on stdin and answers on stdout.
//!
//! Compilers meet hostile input, so they run apart from the hub: the worker limits its own memory and
//! CPU time, and from here it has a wall clock and a bound on what it may answer. Nothing of the hub's
//! environment reaches it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use protocol::reported::{MemoryProfile, Target};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// The worker's file name beside the hub's.
pub const EXECUTABLE: &str = "hub-compiler";

/// What it says of itself or of a component fits easily; a component may have thousands of imports.
const ANSWER_MAX: u64 = 1 << 20;
/// Of its last words, as much as a person reads.
const STDERR_MAX: u64 = 4096;
/// Telling its engine takes a worker milliseconds; a slow SD card may take seconds to load it.
const ENGINE_TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Worker {
    path: PathBuf,
    limits: WorkerLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Bytes of address space.
    pub memory: u64,
    /// Of CPU, and of wall clock too.
    pub time: Duration,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum WorkerError {
    /// The input is at fault.
    #[error("{reason}")]
    Refused { reason: String },
    #[error("it took longer than {} s", limit.as_secs())]
    TimedOut { limit: Duration },
    #[error("it grew beyond {limit} bytes")]
    TooLarge { limit: u64 },
    /// Killed by a signal: most likely over its memory or CPU limit.
    #[error("the compiler was ended by {how}, probably at its limit of {} MiB and {} s", limits.memory >> 20, limits.time.as_secs())]
    Died { how: String, limits: WorkerLimits },
    #[error("cannot run the compiler {}: {why}", path.display())]
    Missing { path: PathBuf, why: String },
    #[error("lost touch with the compiler: {why}")]
    Io { why: String },
}

/// What a component is, from its imports and exports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Inspection {
    pub kind: InspectedKind,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InspectedKind {
    Command,
    Http,
    Unknown,
}

impl Worker {
    /// The worker at `path`, or the one beside the hub's own executable.
    ///
    /// # Errors
    /// The hub's own path is unknown.
    pub fn new(path: Option<PathBuf>, limits: WorkerLimits) -> io::Result<Self> {
        let path = match path {
            Some(path) => path,
            None => std::env::current_exe()?.with_file_name(EXECUTABLE),
        };
        Ok(Self { path, limits })
    }

    /// The engine whose artifacts it makes: `48.0.8+abi1`.
    ///
    /// # Errors
    /// It does not run.
    pub async fn engine(&self) -> Result<String, WorkerError> {
        let mut text = Vec::new();
        let run = self.run(["engine".into()], Stdio::null(), ANSWER_MAX, |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        });
        within(ENGINE_TIME, run).await?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Feeds `sink` a component: the one in `wasm`, or one made of the preview 1 command in it.
    ///
    /// # Errors
    /// `Refused` where it is neither; also whatever `sink` fails with.
    pub async fn componentize(
        &self,
        wasm: &Path,
        limit: u64,
        sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), WorkerError> {
        let stdin = open(wasm)?;
        within(self.limits.time, self.run(["componentize".into()], stdin, limit, sink)).await
    }

    /// # Errors
    /// `Refused` where it is no component.
    pub async fn inspect(&self, component: &Path) -> Result<Inspection, WorkerError> {
        let mut json = Vec::new();
        let run = self.run(["inspect".into()], open(component)?, ANSWER_MAX, |bytes| {
            json.extend_from_slice(bytes);
            Ok(())
        });
        within(self.limits.time, run).await?;
        serde_json::from_slice(&json).map_err(|error| WorkerError::Io { why: format!("it answered nonsense: {error}") })
    }

    /// Feeds `sink` the artifact of a component for `target`, at most `limit` bytes.
    ///
    /// # Errors
    /// `Refused` where it does not compile; also whatever `sink` fails with.
    pub async fn compile(
        &self,
        component: &Path,
        target: &Target,
        limit: u64,
        sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), WorkerError> {
        let memory = match target.memory {
            MemoryProfile::Fast => "fast",
            MemoryProfile::Compact => "compact",
        };
        let args: [OsString; 7] = [
            "compile".into(),
            "--triple".into(),
            (&target.triple).into(),
            "--cpu-features".into(),
            target.cpu_features.join(",").into(),
            "--memory".into(),
            memory.into(),
        ];
        within(self.limits.time, self.run(args, open(component)?, limit, sink)).await
    }

    async fn run<const N: usize>(
        &self,
        args: [OsString; N],
        stdin: Stdio,
        limit: u64,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), WorkerError> {
        let mut child = Command::new(&self.path)
            .args(args)
            .args(["--max-memory".into(), self.limits.memory.to_string()])
            .args(["--max-cpu-seconds".into(), self.limits.time.as_secs().max(1).to_string()])
            .env_clear()
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| WorkerError::Missing { path: self.path.clone(), why: error.to_string() })?;
        let stdout = child.stdout.take().expect("stdout is piped: asked for above");
        let stderr = child.stderr.take().expect("stderr is piped: asked for above");

        // Both at once, or a talkative worker would block on the one that nobody reads.
        let (copied, words) = tokio::join!(copy(stdout, limit, &mut sink), last_words(stderr));
        match copied {
            Ok(()) => {}
            Err(Copy::TooLarge) => return Err(WorkerError::TooLarge { limit }),
            Err(Copy::Io(error)) => return Err(lost(&error)),
        }
        let status = child.wait().await.map_err(|error| lost(&error))?;
        self.judge(status, words)
    }

    fn judge(&self, status: ExitStatus, words: String) -> Result<(), WorkerError> {
        if status.success() {
            return Ok(());
        }
        match (status.code(), words.lines().last().map(str::trim)) {
            (Some(1), Some(reason)) if !reason.is_empty() => Err(WorkerError::Refused { reason: reason.to_owned() }),
            (code, _) => {
                let how = match (code, status.signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "an unknown cause".to_owned(),
                };
                tracing::warn!(%how, stderr = %words, "the compiler died");
                Err(WorkerError::Died { how, limits: self.limits })
            }
        }
    }
}

async fn within(limit: Duration, run: impl Future<Output = Result<(), WorkerError>>) -> Result<(), WorkerError> {
    // Dropping the run kills the process.
    tokio::time::timeout(limit, run).await.unwrap_or(Err(WorkerError::TimedOut { limit }))
}

fn open(path: &Path) -> Result<Stdio, WorkerError> {
    File::open(path).map(Stdio::from).map_err(|error| lost(&error))
}

fn lost(error: &io::Error) -> WorkerError {
    WorkerError::Io { why: error.to_string() }
}

enum Copy {
    TooLarge,
    Io(io::Error),
}

async fn copy(
    from: impl AsyncRead + Unpin,
    limit: u64,
    sink: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Copy> {
    let mut from = from.take(limit.saturating_add(1));
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let count = from.read(&mut buffer).await.map_err(Copy::Io)?;
        if count == 0 {
            return Ok(());
        }
        total += count as u64;
        if total > limit {
            return Err(Copy::TooLarge);
        }
        sink(&buffer[..count]).map_err(Copy::Io)?;
    }
}

/// The beginning of what it said; the rest is read too, so that it never blocks on saying it.
async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let mut words = Vec::new();
    let said = (&mut from).take(STDERR_MAX).read_to_end(&mut words).await;
    let drained = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    if let Err(error) = said.map(|_| 0).and(drained) {
        tracing::debug!(%error, "could not read what the compiler said");
    }
    String::from_utf8_lossy(&words).into_owned()
}

#[cfg(test)]
pub(crate) mod fake {
    //! A worker made of a shell script, for what a real one rarely does.

    use super::*;

    /// A script that runs `body` with the verb in `$1` and its input on stdin.
    pub(crate) fn worker(dir: &Path, body: &str) -> Worker {
        let path = dir.join("worker");
        // Written by another process: while this one has it open, a test that forks at the same time
        // would keep it open too, and a file open for writing cannot be run.
        let mut writer = std::process::Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut script = writer.stdin.take().unwrap();
        io::Write::write_all(&mut script, format!("#!/bin/sh\n{body}\n").as_bytes()).unwrap();
        drop(script);
        assert!(writer.wait().unwrap().success());
        let limits = WorkerLimits { memory: 1 << 30, time: Duration::from_secs(30) };
        Worker::new(Some(path), limits).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `componentize` of "input" comes to with a worker that does `script`.
    async fn check(script: &str, time: Duration, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = fake::worker(dir.path(), script);
        worker.limits.time = time;
        let input = dir.path().join("input");
        std::fs::write(&input, "input").unwrap();
        let mut output = Vec::new();
        let result = worker.componentize(&input, 10, |bytes| {
            output.extend_from_slice(bytes);
            Ok(())
        });
        let got = match result.await {
            Ok(()) => String::from_utf8(output).unwrap(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(got, expected, "{script}");
    }

    #[tokio::test]
    async fn runs_end_in_an_answer_or_a_reason() {
        let long = Duration::from_secs(30);
        check("cat", long, "input").await;
        check("echo $1 | head -c 9", long, "component").await;
        check("echo 'warning: x' >&2; echo 'no wasm' >&2; exit 1", long, "error: no wasm").await;
        check("head -c 11 /dev/zero", long, "error: it grew beyond 10 bytes").await;
        check("yes | head -c 100000 >&2; cat", long, "input").await;
        check("test -z \"$HOME\" && cat", long, "input").await;
        let died = "error: the compiler was ended by signal 9, probably at its limit of 1024 MiB and 30 s";
        check("kill -9 $$", long, died).await;
    }

    #[tokio::test]
    async fn a_run_that_never_ends_is_ended() {
        check("exec sleep 600", Duration::from_millis(200), "error: it took longer than 0 s").await;
    }

    #[tokio::test]
    async fn a_missing_worker_is_named() {
        let limits = WorkerLimits { memory: 1, time: Duration::from_secs(1) };
        let worker = Worker::new(Some("/nonexistent/worker".into()), limits).unwrap();
        let error = worker.engine().await.unwrap_err().to_string();
        assert!(error.starts_with("cannot run the compiler /nonexistent/worker: "), "{error}");
    }
}
