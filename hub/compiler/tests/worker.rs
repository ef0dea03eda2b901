//! The worker as the hub runs it: a process, bytes in, bytes or one line out.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const COMPONENT: &str = r#"
(component
  (core module $m (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (component $c (import "run" (func $f (result (result)))) (export "run" (func $f)))
  (instance $run (instantiate $c (with "run" (func $run))))
  (export "wasi:cli/run@0.2.12" (instance $run)))
"#;

const PREVIEW1: &str = r#"
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))
"#;

const COMPILE: &[&str] = &["compile", "--triple", "x86_64-unknown-linux-gnu", "--memory", "compact"];

fn worker(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hub-compiler"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A worker that refuses early closes the pipe: that is no failure of the test.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn result(args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = worker(args, input);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The one line with which the worker refuses.
fn refusal(args: &[&str], input: &[u8]) -> String {
    let output = worker(args, input);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    text.trim_end().to_owned()
}

#[test]
fn it_names_its_engine() {
    assert_eq!(result(&["engine"], b""), format!("{}\n", artifact::ENGINE).into_bytes());
}

#[test]
fn a_component_passes_through_and_says_what_it_is() {
    let component = wat(COMPONENT);
    assert_eq!(result(&["componentize"], &component), component);
    let text = String::from_utf8(result(&["inspect"], &component)).unwrap();
    assert_eq!(text, "{\"kind\":\"command\",\"imports\":[],\"exports\":[\"wasi:cli/run@0.2.12\"]}\n");
}

#[test]
fn a_preview_1_command_becomes_a_component_that_compiles() {
    let component = result(&["componentize"], &wat(PREVIEW1));
    let text = String::from_utf8(result(&["inspect"], &component)).unwrap();
    assert!(text.starts_with("{\"kind\":\"command\",\"imports\":["), "{text}");
    assert!(text.contains("\"wasi:cli/exit@"), "{text}");
    // The host's own function, not the adapter's: the code survives.
    assert!(component.windows(14).any(|bytes| bytes == b"exit-with-code"));
    assert!(!result(COMPILE, &component).is_empty());
}

#[test]
fn a_command_that_asks_nothing_of_the_system_is_one_too() {
    let component =
        result(&["componentize"], &wat("(module (memory (export \"memory\") 1) (func (export \"_start\")))"));
    assert!(String::from_utf8(result(&["inspect"], &component)).unwrap().contains("command"));
}

#[test]
fn other_core_modules_are_refused_with_the_reason() {
    let cases = [
        ("(module (import \"env\" \"f\" (func)) (func (export \"_start\")))", "imports from env"),
        ("(module (import \"wasi_unstable\" \"f\" (func)) (func (export \"_start\")))", "imports from wasi_unstable"),
        ("(module (func (export \"handle\")))", "exports no _start"),
        ("(module (import \"wasi_snapshot_preview1\" \"nonsense\" (func)) (func (export \"_start\")))", "nonsense"),
        ("(module (memory i64 1) (func (export \"_start\")))", "memory64"),
    ];
    for (module, reason) in cases {
        let refused = refusal(&["componentize"], &wat(module));
        assert!(refused.contains(reason), "{module}: {refused}");
    }
    let module = wat("(module)");
    assert_eq!(refusal(&["inspect"], &module), "this is a core module, not a component");
    assert_eq!(refusal(COMPILE, &module), "this is a core module, not a component");
}

#[test]
fn what_is_no_wasm_is_refused_by_every_command() {
    for command in [&["componentize"][..], &["inspect"], COMPILE] {
        assert_eq!(refusal(command, b""), "the file is empty");
        assert!(refusal(command, b"#!/bin/sh\nexit 0\n").contains("no WebAssembly"));
        assert!(refusal(command, b"\0asm").contains("cut short"));
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let component = wat(COMPONENT);
    for length in 8..component.len() {
        let output = worker(&["componentize"], &component[..length]);
        // A cut between two sections leaves a shorter but valid component.
        assert!(matches!(output.status.code(), Some(0 | 1)), "cut at {length}: {output:?}");
    }
}

#[test]
fn altered_bytes_never_crash_it() {
    let component = result(&["componentize"], &wat(PREVIEW1));
    for at in (8..component.len()).step_by(component.len() / 40) {
        let mut altered = component.clone();
        altered[at] ^= 0x55;
        let output = worker(COMPILE, &altered);
        assert!(matches!(output.status.code(), Some(0 | 1)), "altered at {at}: {output:?}");
    }
}

#[test]
fn a_target_nobody_compiles_for_is_refused() {
    let component = wat(COMPONENT);
    let reason = refusal(&["compile", "--triple", "sparc-sun-solaris", "--memory", "fast"], &component);
    assert!(reason.starts_with("no code is compiled for sparc-sun-solaris"), "{reason}");
    let reason = refusal(&[COMPILE, &["--cpu-features", "has_avx"]].concat(), &component);
    assert!(reason.contains("has_avx"), "{reason}");
}

#[test]
fn it_keeps_within_its_limits() {
    use std::os::unix::process::ExitStatusExt;
    let component = wat(COMPONENT);
    assert!(
        !result(&[COMPILE, &["--max-memory", "1073741824", "--max-cpu-seconds", "60"]].concat(), &component).is_empty()
    );
    // 64 MiB hold the program but not this input.
    let output = worker(&["componentize", "--max-memory", "67108864"], &vec![0; 100 << 20]);
    assert!(!output.status.success());
    assert!(output.status.code() == Some(1) || output.status.signal().is_some(), "{output:?}");
}
