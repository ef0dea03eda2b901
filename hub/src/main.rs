//! The `hub` program: `hub serve` is the hub, the other commands are its clients.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use hub::config::{Config, Settings};
use tracing_subscriber::EnvFilter;

/// Runs Wasm pods on a fleet of small machines; speaks the Kubernetes API.
#[derive(Parser)]
#[command(name = "hub", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub until it is told to stop
    Serve(Box<Settings>),
    /// Make a certificate for an MQTT broker of your own (hub serve --mqtt)
    BrokerCertificate(hub::broker::certificate::Wish),
    #[command(flatten)]
    Client(hub_cli::Command),
}

fn main() -> ExitCode {
    match Program::parse().command {
        Command::Client(command) => hub_cli::run(command, Program::command()),
        Command::BrokerCertificate(wish) => match broker_certificate(&wish) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("hub: {error:#}");
                ExitCode::FAILURE
            }
        },
        Command::Serve(settings) => match serve(*settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("hub: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn broker_certificate(wish: &hub::broker::certificate::Wish) -> anyhow::Result<()> {
    let now = protocol::UnixMillis(hub::clock::Clock::system().unix_millis());
    for path in hub::broker::certificate::write(wish, now)? {
        println!("{}", path.display());
    }
    Ok(())
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    // The broker's library tells of each client by itself; what matters is told by ours.
    let filter = EnvFilter::try_from_env("WHERRY_LOG").unwrap_or_else(|_| "info,mqtt5=warn".into());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let config = Config::load(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(hub::serve::run(config))?;
    // A blocking read that hangs must not keep the program.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(())
}
