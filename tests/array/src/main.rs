//! `corepath-array`: one process, one array. See README.md and `--help`.

#![forbid(unsafe_code)]

use corepath_array::bus::{self, Hub};
use corepath_array::{config, server};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--help" || a == "-h") {
        println!("{}", config::USAGE);
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("corepath-array: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let (config, mut array) = config::parse(args)?;
    let log_file = match &config.log_file {
        Some(path) => {
            array.log.sink = Some(Vec::new());
            let file = std::fs::File::create(path);
            Some(file.map_err(|e| format!("{}: {e}", path.display()))?)
        }
        None => None,
    };
    let hub = Hub::new(array);
    let (tell, ended) = std::sync::mpsc::channel::<String>();
    for (index, path) in config.sockets.into_iter().enumerate() {
        let (hub, tell) = (hub.clone(), tell.clone());
        std::thread::spawn(move || {
            let name = path.display().to_string();
            if let Err(e) = bus::serve_port(hub, index, &path) {
                let _ = tell.send(format!("{name}: {e}"));
            }
        });
    }
    if let Some(path) = config.control {
        let hub = hub.clone();
        std::thread::spawn(move || {
            let name = path.display().to_string();
            if let Err(e) = server::serve(hub, &path) {
                let _ = tell.send(format!("{name}: {e}"));
            }
        });
    }
    std::thread::spawn(move || hub.run_ticker(log_file));
    // The threads serve for ever; the first that cannot ends the array.
    Err(ended.recv().unwrap_or_else(|_| "no socket left".into()))
}
