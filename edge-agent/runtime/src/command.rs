//! A component that is a process: one store, one call of `wasi:cli/run`.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::exit::{End, Exit};
use crate::instance::{Guests, Run};
use crate::state::State;

/// Runs a command to its end, or until it is cut. Nothing of the guest is left when this returns.
pub(crate) async fn run(command: CommandPre<State>, store: Store<State>, run: Arc<Run>, guests: Guests) -> Exit {
    let guest = run.metered(&guests, call(command, store));
    tokio::select! {
        biased;
        exit = run.control.wait_cut() => exit,
        end = guest => Exit::of_command(end, run.memory()),
    }
}

async fn call(command: CommandPre<State>, mut store: Store<State>) -> End {
    let instance = match command.instantiate_async(&mut store).await {
        Ok(instance) => instance,
        Err(error) => return End::of(Err(error)),
    };
    End::of(instance.wasi_cli_run().call_run(&mut store).await)
}
