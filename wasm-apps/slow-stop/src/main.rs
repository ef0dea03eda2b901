//! Hears the stop signal and then takes `STOP_TAKES_MS` (2000) before it exits with `STOP_CODE` (0).

use std::env;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package wherry:pod@0.1.0;
            interface lifecycle {
                use wasi:io/poll@0.2.12.{pollable};
                stop: func() -> pollable;
            }
            world pod { import lifecycle; }
            package wasi:io@0.2.12 {
                interface poll { resource pollable { ready: func() -> bool; block: func(); } }
            }",
        world: "wherry:pod/pod",
        with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
    });
}

fn main() {
    let number = |name: &str, default: u64| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    println!("slow-stop: waiting for the stop signal");
    bindings::wherry::pod::lifecycle::stop().block();
    println!("slow-stop: heard it, tidying up");
    sleep(Duration::from_millis(number("STOP_TAKES_MS", 2000)));
    println!("slow-stop: done");
    exit(i32::try_from(number("STOP_CODE", 0)).unwrap_or(0));
}
