//! What code can be compiled for.

use protocol::reported::Target;

use crate::settings::ENGINE;

/// 64-bit Linux. The engine does not compare the environment, so the same artifact serves glibc and musl.
pub const TRIPLES: [&str; 2] = ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedTarget {
    #[error("no code is compiled for {triple}; known are {}", TRIPLES.join(" and "))]
    Triple { triple: String },
    /// Artifacts are compiled for a triple's baseline, which runs on every 64-bit Pi and PC: the features
    /// beyond it that this engine knows (atomics, dot products, wider vectors) buy single-threaded scalar
    /// guests next to nothing, and each would double the number of artifacts to compile and keep.
    #[error("code is compiled for the baseline of a processor family, not for {feature}")]
    CpuFeature { feature: String },
    #[error("this is engine {ENGINE}; {engine} needs a compiler of its own")]
    Engine { engine: String },
}

/// Whether this engine version can compile for `target`.
///
/// # Errors
/// Says which part of the target it cannot serve.
pub fn check(target: &Target) -> Result<(), UnsupportedTarget> {
    if target.engine != ENGINE {
        return Err(UnsupportedTarget::Engine { engine: target.engine.clone() });
    }
    if !TRIPLES.contains(&target.triple.as_str()) {
        return Err(UnsupportedTarget::Triple { triple: target.triple.clone() });
    }
    match target.cpu_features.first() {
        Some(feature) => Err(UnsupportedTarget::CpuFeature { feature: feature.clone() }),
        None => Ok(()),
    }
}

/// The triple whose artifacts this process can run; none on a machine nothing is compiled for.
pub fn host_triple() -> Option<&'static str> {
    let arch = std::env::consts::ARCH;
    let linux = std::env::consts::OS == "linux" && cfg!(target_endian = "little");
    TRIPLES.into_iter().find(|triple| linux && triple.split('-').next() == Some(arch))
}

#[cfg(test)]
mod tests {
    use protocol::reported::MemoryProfile;

    use super::*;

    fn check_text(triple: &str, features: &[&str], engine: &str) -> String {
        let target = Target {
            triple: triple.into(),
            cpu_features: features.iter().map(ToString::to_string).collect(),
            memory: MemoryProfile::Fast,
            engine: engine.into(),
        };
        check(&target).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn a_target_is_served_whole_or_refused_with_the_reason() {
        let x86 = "x86_64-unknown-linux-gnu";
        assert_eq!(check_text(x86, &[], ENGINE), "ok");
        assert_eq!(check_text("aarch64-unknown-linux-gnu", &[], ENGINE), "ok");
        assert_eq!(
            check_text("riscv64gc-unknown-linux-gnu", &[], ENGINE),
            "no code is compiled for riscv64gc-unknown-linux-gnu; known are aarch64-unknown-linux-gnu and \
             x86_64-unknown-linux-gnu"
        );
        assert_eq!(
            check_text(x86, &["has_avx"], ENGINE),
            "code is compiled for the baseline of a processor family, not for has_avx"
        );
        assert!(check_text(x86, &[], "47.0.0+abi1").starts_with("this is engine 48.0.8+abi1; 47.0.0+abi1"));
    }

    #[test]
    fn the_version_is_that_of_the_engine_we_link() {
        assert_eq!(ENGINE.split('+').next(), Some(wasmtime_version()));
    }

    /// From the lock file's pin; the crate does not export its version.
    fn wasmtime_version() -> &'static str {
        let manifest = include_str!("../../Cargo.toml");
        let at = manifest.find("wasmtime = { version = \"=").expect("the engine is pinned");
        manifest[at..].split('"').nth(1).expect("a quoted version").trim_start_matches('=')
    }
}
