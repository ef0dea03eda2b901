//! The commands: one file each.

mod get;

mod describe;

mod apply;

mod delete;

mod logs;

mod scale;

mod push;

mod images;

mod rmi;

mod token;

mod kubeconfig;

mod version;

mod completion;

mod duration;
mod target;

/// The commands beside `hub serve`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show objects, one line each or whole
    Get(get::Get),
    /// Show one object with everything that happened to it
    Describe(describe::Describe),
    /// Create or change objects as files say
    Apply(apply::Apply),
    /// Delete objects
    Delete(delete::Delete),
    /// Show what a pod's container prints
    Logs(logs::Logs),
    /// Set how many replicas run
    Scale(scale::Scale),
    /// Store a WebAssembly program on the hub, for pods to run
    Push(push::Push),
    /// List the images on the hub
    Images(images::Images),
    /// Remove an image's name; its files go when no pod uses them
    Rmi(rmi::Rmi),
    /// Make and manage the tokens that nodes join with
    Token(token::Token),
    /// Print the kubeconfig in use, for kubectl
    Kubeconfig(kubeconfig::Kubeconfig),
    /// Print the versions of this program and of the hub
    Version(version::Version),
    /// Print a shell's completions for this program
    Completion(completion::Completion),
}

pub(crate) async fn run(command: Command, program: clap::Command) -> anyhow::Result<()> {
    match command {
        Command::Get(command) => command.run().await,
        Command::Describe(command) => command.run().await,
        Command::Apply(command) => command.run().await,
        Command::Delete(command) => command.run().await,
        Command::Logs(command) => command.run().await,
        Command::Scale(command) => command.run().await,
        Command::Push(command) => command.run().await,
        Command::Images(command) => command.run().await,
        Command::Rmi(command) => command.run().await,
        Command::Token(command) => command.run().await,
        Command::Kubeconfig(command) => command.run(),
        Command::Version(command) => command.run(&program).await,
        Command::Completion(command) => command.run(program),
    }
}
