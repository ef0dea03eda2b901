//! Prints a line now and then. With other arguments it is a small tool, so that exec probes, hooks
//! and tests have something to run:
//!
//! ```text
//! hello                       a greeting, then a line every HELLO_INTERVAL_MS (5000)
//! hello times N               N lines, then exit 0
//! hello exit CODE             exit at once
//! hello echo WORDS...         print them
//! hello env [NAME]            print the environment, or one variable (exit 1 if it is not set)
//! hello cat PATH              print a file (exit 1 if it cannot be read)
//! hello write PATH WORDS...   write a file
//! hello exists PATH           exit 0 or 1
//! hello ls PATH               print a directory's names
//! hello sleep MS              sleep, then exit 0
//! ```

use std::env;
use std::error::Error;
use std::fs;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let Err(error) = run(&words) {
        eprintln!("hello: {error}");
        exit(1);
    }
}

fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    match words {
        [] => greet(None)?,
        ["times", count] => greet(Some(count.parse()?))?,
        ["exit", code] => exit(code.parse()?),
        ["echo", rest @ ..] => println!("{}", rest.join(" ")),
        ["env"] => env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["env", name] => println!("{}", env::var(name)?),
        ["cat", path] => print!("{}", fs::read_to_string(path)?),
        ["write", path, rest @ ..] => fs::write(path, rest.join(" "))?,
        ["exists", path] => drop(fs::metadata(path)?),
        ["ls", path] => list(path)?,
        ["sleep", millis] => sleep(Duration::from_millis(millis.parse()?)),
        _ => return Err(format!("cannot do {words:?}; see the head of hello's source").into()),
    }
    Ok(())
}

fn greet(times: Option<u64>) -> Result<(), Box<dyn Error>> {
    let me = env::var("HOSTNAME").unwrap_or_else(|_| "a pod".into());
    let interval = match env::var("HELLO_INTERVAL_MS") {
        Ok(text) => Duration::from_millis(text.parse()?),
        Err(_) => Duration::from_secs(5),
    };
    println!("hello from {me}");
    let mut count = 0;
    while times.is_none_or(|times| count < times) {
        sleep(interval);
        count += 1;
        println!("{me} is still here, {count}");
    }
    Ok(())
}

fn list(path: &str) -> Result<(), Box<dyn Error>> {
    let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}
