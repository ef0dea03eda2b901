//! The functions of WASI's socket interfaces that are ours.
//!
//! A function with a misspelt name would be added beside the original and leave it in place: a hole. Therefore each
//! is a row here, and a test checks that each row collides with an original.

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi::p2::SocketError;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

use super::{names, tcp, udp};
use crate::state::State;

/// One function or resource of an interface that replaces wasmtime-wasi's.
pub(super) struct Override {
    pub(super) name: &'static str,
    pub(super) define: fn(&mut LinkerInstance<'_, State>, &str) -> wasmtime::Result<()>,
}

const INTERFACES: [(&str, &[Override]); 3] = [
    ("wasi:sockets/tcp@0.2.12", tcp::OVERRIDES),
    ("wasi:sockets/udp@0.2.12", udp::OVERRIDES),
    ("wasi:sockets/ip-name-lookup@0.2.12", names::OVERRIDES),
];

/// Replaces what must not reach the node's real network. The originals must be linked already.
pub(crate) fn link_sockets(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for (interface, overrides) in INTERFACES {
        let mut instance = linker.instance(interface)?;
        for function in overrides {
            (function.define)(&mut instance, function.name)?;
        }
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// What a socket function returns to the engine: the guest's result, or a trap.
pub(super) type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

pub(super) fn answer<T>(result: Result<T, SocketError>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// The same resource once more: the originals take theirs by value.
pub(super) fn again<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    #[test]
    fn every_override_meets_the_original_it_replaces() {
        let config = artifact::runtime_config(protocol::reported::MemoryProfile::Compact);
        let engine = Engine::new(&config).unwrap();
        let mut count = 0;
        for (interface, overrides) in INTERFACES {
            for function in overrides {
                let mut linker = Linker::<State>::new(&engine);
                wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
                let mut instance = linker.instance(interface).unwrap();
                let collision = (function.define)(&mut instance, function.name);
                assert!(collision.is_err(), "{interface} has no {}", function.name);
                count += 1;
            }
        }
        assert_eq!(count, 14);
    }

    #[test]
    fn all_of_them_link_together() {
        let config = artifact::runtime_config(protocol::reported::MemoryProfile::Compact);
        let mut linker = Linker::<State>::new(&Engine::new(&config).unwrap());
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        link_sockets(&mut linker).unwrap();
    }
}
