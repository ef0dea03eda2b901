//! The hub's configuration and the node's, put together: what one compiles the other loads, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

use artifact::{ENGINE, TRIPLES, compiler_config, host_triple, runtime_config};
use protocol::reported::{MemoryProfile, Target};
use wasmtime::Engine;

const GUEST: &str = r#"
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "lanes") (result i32)
      (i32x4.extract_lane 2 (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 5 6 7 8)))))
  (core instance $i (instantiate $m))
  (func (export "add") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add"))))
"#;

fn target(triple: &str, memory: MemoryProfile) -> Target {
    Target { triple: triple.into(), cpu_features: vec![], memory, engine: ENGINE.into() }
}

fn compile(target: &Target, guest: &str) -> Result<Vec<u8>, String> {
    let engine = Engine::new(&compiler_config(target).unwrap()).unwrap();
    let wasm = wat::parse_str(guest).unwrap();
    engine.precompile_component(&wasm).map_err(|e| format!("{e:#}"))
}

/// The engine's own digest of all settings. Loading is `unsafe` and belongs to the agent's runtime, whose tests
/// take artifacts all the way.
fn compatibility(config: &wasmtime::Config) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    Engine::new(config).unwrap().precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

#[test]
fn every_triple_and_profile_compiles() {
    for triple in TRIPLES {
        for memory in [MemoryProfile::Fast, MemoryProfile::Compact] {
            let artifact = compile(&target(triple, memory), GUEST).unwrap();
            assert!(Engine::detect_precompiled(&artifact).is_some(), "{triple} {memory:?}");
        }
    }
}

#[test]
fn profiles_are_told_apart() {
    assert!(host_triple().is_some());
    let hash = |memory| compatibility(&runtime_config(memory));
    assert_ne!(hash(MemoryProfile::Fast), hash(MemoryProfile::Compact));
    assert_eq!(hash(MemoryProfile::Fast), hash(MemoryProfile::Fast));
}

#[test]
fn features_we_turned_off_are_refused_by_name() {
    let host = target(host_triple().unwrap(), MemoryProfile::Fast);
    let cases = [
        ("(component (core module (memory i64 1)))", "memory64"),
        ("(component (core module (memory 1 1 shared)))", "threads"),
        ("(component (core module (tag)))", "exceptions"),
    ];
    for (guest, feature) in cases {
        let error = compile(&host, guest).unwrap_err();
        assert!(error.contains(feature), "{guest}: {error}");
    }
}
