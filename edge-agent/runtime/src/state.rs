//! What one store holds of the host: everything a guest can touch hangs here and dies with it.

use std::sync::Arc;

use tokio::sync::watch;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use protocol::pod::Access;

use crate::http::Egress;
use crate::instance::Control;
use crate::logs::{LogStream, LogWriter};
use crate::memory::{Budget, StoreMemory};
use crate::net::{Net, PodAddress, PodSockets};
use crate::sandbox::{ContainerConfig, StartError};

/// Bytes that host functions copy for the guest in one call.
const HOSTCALL_BYTES: usize = 4 << 20;

/// Streams, sockets, files and pollables one store may hold: each is host memory or a file descriptor.
const RESOURCES: usize = 1024;

/// Bytes of one `get-random-bytes`.
const RANDOM_BYTES: u64 = 1 << 20;

/// Bytes of one message's header fields in host memory.
const HEADER_BYTES: usize = 64 << 10;

pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    egress: Egress,
    memory: StoreMemory,
    pub(crate) sockets: PodSockets,
    /// Turns true when the guest is asked to end.
    pub(crate) stop: watch::Receiver<bool>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.egress }
    }
}

/// What every store of one container is made from.
pub(crate) struct Template {
    pub(crate) engine: Engine,
    pub(crate) net: Net,
    pub(crate) address: Arc<PodAddress>,
    pub(crate) hostname: String,
    pub(crate) config: ContainerConfig,
    pub(crate) budget: Arc<Budget>,
}

impl Template {
    /// A store with everything the guest may touch, nothing instantiated yet.
    ///
    /// # Errors
    /// A mount that cannot be opened.
    pub(crate) fn store(&self, control: &Control) -> Result<Store<State>, StartError> {
        let sockets = PodSockets::new(&self.net, self.address.ip, &self.hostname);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES);
        let state = State {
            wasi: self.wasi(&sockets)?,
            table,
            http,
            egress: Egress,
            memory: StoreMemory::new(&self.budget),
            sockets,
            stop: control.stop.subscribe(),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        // A guest that runs gives way at every tick; whoever polls it looks for a kill first.
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        Ok(store)
    }

    fn wasi(&self, sockets: &PodSockets) -> Result<WasiCtx, StartError> {
        let config = &self.config;
        let mut wasi = WasiCtx::builder();
        wasi.arg(config.name.as_str()).args(&config.args).envs(&config.env);
        wasi.stdout(LogWriter { sink: config.log.clone(), stream: LogStream::Stdout });
        wasi.stderr(LogWriter { sink: config.log.clone(), stream: LogStream::Stderr });
        wasi.max_random_size(RANDOM_BYTES);
        if let Some(directory) = &config.working_dir {
            wasi.initial_cwd(directory);
        }
        let root = config.root.iter().map(|host| (host, "/", FsPerms::ReadOnly));
        let mounts = config.mounts.iter().map(|mount| (&mount.host, mount.guest.as_str(), permissions(mount.access)));
        for (host, guest, permissions) in root.chain(mounts) {
            wasi.preopened_dir(host, guest, permissions).map_err(|error| StartError::Mount {
                host: host.clone(),
                guest: guest.to_owned(),
                source: error.downcast().unwrap_or_else(|other| std::io::Error::other(other.to_string())),
            })?;
        }
        sockets.configure(&mut wasi);
        Ok(wasi.build())
    }
}

fn permissions(access: Access) -> FsPerms {
    match access {
        Access::ReadOnly => FsPerms::ReadOnly,
        Access::ReadWrite => FsPerms::ReadWrite,
    }
}
