//! The `edge-agent` program: reads its arguments, runs, tells how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use edge_agent::args::{Args, Command};
use edge_agent::config::{Config, JoinConfig};
use edge_agent::{facts, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(EnvFilter::try_new(&args.log).unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    match start(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for everything but guests: they never delay it, and it needs no more.
fn start(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hostname = facts::hostname();
    let result = match command {
        Command::Join(args) => {
            let config = JoinConfig::parse(&args, &hostname)?;
            runtime.block_on(run::join(&config))
        }
        Command::Run(args) => {
            let config = Config::parse(&args, &hostname)?;
            runtime.block_on(async {
                let shutdown = CancellationToken::new();
                watch_signals(&shutdown)?;
                run::run(config, shutdown).await
            })
        }
    };
    // A disk that hangs must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(result?)
}

/// The first signal ends the agent in order, the second at once.
fn watch_signals(shutdown: &CancellationToken) -> Result<(), run::RunError> {
    let listen = |kind| signal(kind).map_err(run::RunError::Signals);
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(130);
            }
            shutdown.cancel();
        }
    });
    Ok(())
}
