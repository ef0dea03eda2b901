//! What the host offers to guests, and on what grounds. What is not in the table cannot be imported.

use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use crate::net::link_sockets;
use crate::state::State;

/// What entitles a pod to a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    /// Nothing beyond being a pod: the capability reaches only what the pod's own configuration gives it.
    EveryPod,
}

/// A group of interfaces that is granted as one.
struct Capability {
    interfaces: &'static [&'static str],
    /// Semantic-version prefix of what we implement.
    version: &'static str,
    grant: Grant,
    link: fn(&mut Linker<State>) -> wasmtime::Result<()>,
}

/// The interface by which a guest hears of its stop.
pub(crate) const LIFECYCLE: &str = "wherry:pod/lifecycle";

/// Devices (I2C, GPIO, serial) will be rows with a grant of their own.
const TABLE: &[Capability] = &[
    Capability {
        interfaces: &["wasi:io/error", "wasi:io/poll", "wasi:io/streams"],
        version: "0.2",
        grant: Grant::EveryPod,
        link: link_io,
    },
    Capability {
        interfaces: &["wasi:clocks/wall-clock", "wasi:clocks/monotonic-clock"],
        version: "0.2",
        grant: Grant::EveryPod,
        link: link_clocks,
    },
    Capability {
        interfaces: &["wasi:random/random", "wasi:random/insecure", "wasi:random/insecure-seed"],
        version: "0.2",
        grant: Grant::EveryPod,
        link: link_random,
    },
    // Arguments, environment and output are the container's own.
    Capability {
        interfaces: &[
            "wasi:cli/environment",
            "wasi:cli/exit",
            "wasi:cli/stdin",
            "wasi:cli/stdout",
            "wasi:cli/stderr",
            "wasi:cli/terminal-input",
            "wasi:cli/terminal-output",
            "wasi:cli/terminal-stdin",
            "wasi:cli/terminal-stdout",
            "wasi:cli/terminal-stderr",
        ],
        version: "0.2",
        grant: Grant::EveryPod,
        link: link_cli,
    },
    // Only the container's mounts are opened.
    Capability {
        interfaces: &["wasi:filesystem/types", "wasi:filesystem/preopens"],
        version: "0.2",
        grant: Grant::EveryPod,
        link: link_files,
    },
    // The virtual network.
    Capability {
        interfaces: &[
            "wasi:sockets/network",
            "wasi:sockets/instance-network",
            "wasi:sockets/tcp",
            "wasi:sockets/tcp-create-socket",
            "wasi:sockets/udp",
            "wasi:sockets/udp-create-socket",
            "wasi:sockets/ip-name-lookup",
        ],
        version: "0.2",
        grant: Grant::EveryPod,
        link: link_network,
    },
    // Outgoing requests end in `Egress`, which refuses them.
    Capability {
        interfaces: &["wasi:http/types", "wasi:http/outgoing-handler"],
        version: "0.2",
        grant: Grant::EveryPod,
        link: wasmtime_wasi_http::p2::add_only_http_to_linker_async,
    },
    Capability { interfaces: &[LIFECYCLE], version: "0.1", grant: Grant::EveryPod, link: link_lifecycle },
];

/// A linker with everything that every pod is granted.
pub(crate) fn link_all(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for capability in TABLE {
        match capability.grant {
            Grant::EveryPod => (capability.link)(linker)?,
        }
    }
    Ok(())
}

/// Which of these imports no row provides.
pub(crate) fn unsupported<'a>(imports: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    imports.into_iter().filter(|import| !provided(import)).map(str::to_owned).collect()
}

fn provided(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    TABLE.iter().any(|row| {
        let same = version.strip_prefix(row.version).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        same && row.interfaces.contains(&interface)
    })
}

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(state: &mut State) -> &mut ResourceTable {
    state.ctx().table
}

fn link_io(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<_, Io>(linker, table)?;
    io::poll::add_to_linker::<_, Io>(linker, table)?;
    io::streams::add_to_linker::<_, Io>(linker, table)
}

fn link_clocks(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, State::clocks)
}

fn link_random(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    random::random::add_to_linker::<_, WasiRandom>(linker, State::random)?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, State::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, State::random)
}

fn link_cli(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, State::cli)
}

fn link_files(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, State::filesystem)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, State::filesystem)
}

fn link_network(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<_, WasiSockets>(linker, &options, State::sockets)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, State::sockets)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(linker, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, State::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(linker, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, State::sockets)?;
    link_sockets(linker)
}

/// `stop: func() -> pollable`, ready once the pod is asked to end.
fn link_lifecycle(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wherry:pod/lifecycle@0.1.0")?;
    instance.func_wrap("stop", |mut cx: StoreContextMut<'_, State>, ()| -> wasmtime::Result<(Resource<DynPollable>,)> {
        let state = cx.data_mut();
        let stop = Stop(state.stop.clone());
        let table = table(state);
        let resource = table.push(stop)?;
        Ok((subscribe(table, resource)?,))
    })
}

struct Stop(tokio::sync::watch::Receiver<bool>);

#[wasmtime_wasi::async_trait]
impl Pollable for Stop {
    async fn ready(&mut self) {
        // A sender that is gone means that nobody will ask any more: the guest is being torn down.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(import: &str, expected: bool) {
        assert_eq!(provided(import), expected, "{import}");
    }

    #[test]
    fn imports() {
        check("wasi:cli/environment@0.2.0", true);
        check("wasi:cli/environment@0.2.12", true);
        check("wasi:cli/environment@0.3.0", false);
        check("wasi:cli/environment@0.20.0", false);
        check("wasi:cli/environment", false);
        check("wasi:keyvalue/store@0.2.0", false);
        check("wasi:sockets/tcp@0.2.4", true);
        check("wherry:pod/lifecycle@0.1.0", true);
        check("log", false);
        assert_eq!(unsupported(["a:b/c@1.0.0", "wasi:io/poll@0.2.3", "x"]), ["a:b/c@1.0.0", "x"]);
    }

    #[test]
    fn the_whole_table_links_into_one_linker() {
        let config = artifact::runtime_config(protocol::reported::MemoryProfile::Compact);
        let engine = wasmtime::Engine::new(&config).unwrap();
        link_all(&mut Linker::new(&engine)).unwrap();
    }
}
