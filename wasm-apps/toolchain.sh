#!/usr/bin/env bash
# Makes `cargo build --target wasm32-wasip2` possible, and says how on stderr.
#
#   eval "$(wasm-apps/toolchain.sh)" && cd wasm-apps && cargo build --release --target wasm32-wasip2
#
# 1. The target's standard library is installed: nothing to do, prints nothing.
# 2. Debian with root and the packages rustc-web and rust-web-src: the standard library is built once
#    from Debian's source into a private sysroot (~/.cache/wherry-wasm), and the variables to use it are printed.
# 3. Else `rustup target add`. WASM_ALLOW_RUSTUP=1 tries this before 2.
set -euo pipefail
target=wasm32-wasip2
packages=(rustc-web cargo-web rust-web-src lld-22 wasi-libc)

say() { echo "toolchain: $*" >&2; }
installed() { ls "$(rustc --print target-libdir --target "$target" 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1; }
by_rustup() {
    command -v rustup >/dev/null || return 1
    say "asking rustup for $target"
    timeout 300 rustup target add "$target" >&2 && installed
}
apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 "$@" >&2; }
in_debian() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
    dpkg -s "${packages[@]}" >/dev/null 2>&1 && return 0
    apt-cache show "${packages[@]}" >/dev/null 2>&1 || apt -q update
    apt-cache show "${packages[@]}" >/dev/null 2>&1
}

installed && exit 0
if [ "${WASM_ALLOW_RUSTUP:-0}" = 1 ] && by_rustup; then exit 0; fi
if ! in_debian; then
    by_rustup && exit 0
    say "no way to build for $target: run \`rustup target add $target\`, or use Debian 12 or later as root"
    exit 1
fi

if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    say "installing Debian's ${packages[*]} (about 150 MB)"
    archives=$(mktemp -d) && mkdir "$archives/partial" # the usual folder may be emptied by another apt run
    apt -q -o Dir::Cache::archives="$archives" install -y --no-install-recommends "${packages[@]}"
    rm -rf "$archives"
fi

version=$(/usr/bin/rustc -V | cut -d' ' -f2)
sysroot=${XDG_CACHE_HOME:-$HOME/.cache}/wherry-wasm/$version
library=$sysroot/lib/rustlib/$target/lib
if ! ls "$library"/libstd-*.rlib >/dev/null 2>&1; then
    say "building the standard library for $target from Debian's source, once (about a minute)"
    work=$(mktemp -d) && mkdir "$work/src" && : >"$work/src/lib.rs"
    printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$work/Cargo.toml"
    # Bitcode, because the guests are linked with LTO.
    (cd "$work" && env -u CARGO_BUILD_TARGET -u CARGO_BUILD_BUILD_DIR RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc \
        RUSTFLAGS=-Cembed-bitcode=yes CARGO_TARGET_DIR="$work/t" /usr/bin/cargo build -q --release --target "$target" \
        -Zbuild-std=std,panic_abort,panic_unwind,proc_macro) >&2
    mkdir -p "$library/self-contained"
    rm -f "$work/t/$target/release/deps"/libempty*
    cp "$work/t/$target/release/deps"/*.rlib "$library/"
    cp /usr/lib/wasm32-wasi/{crt1-command.o,crt1-reactor.o,libc.a} "$library/self-contained/"
    rm -rf "$work"
fi
# Debian's `_start` leaves the constructors to the linker, which then runs them before every export: also
# before `cabi_realloc`, in the middle of a host call, where the libc's look at its directories traps
# ("cannot leave component instance") as soon as a volume is mounted. With the reactor's start in the same
# object they run once.
command_start=$library/self-contained/crt1-command.o
if [ ! -e "$command_start.once" ]; then
    crt=/usr/lib/wasm32-wasi
    rm -f "$command_start"
    wasm-ld-22 -r "$crt/crt1-command.o" "$crt/crt1-reactor.o" -o "$command_start" && : >"$command_start.once"
fi
if ! command -v wasm-component-ld >/dev/null; then
    say "building wasm-component-ld, the linker that makes components, once (about two minutes)"
    (cd / && env -u RUSTC -u CARGO_BUILD_BUILD_DIR cargo install -q --locked wasm-component-ld --version 0.5.31) >&2
fi
flags="--sysroot=$sysroot -Clink-self-contained=yes -Clink-arg=--wasm-ld-path=/usr/bin/wasm-ld-22"
echo "export RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_WASIP2_LINKER=wasm-component-ld CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS='$flags'"
