//! The program from its arguments to its exit code: what it prints, and how it ends.

use crate::operating;
use crate::settings::{Command, Settings};
use crate::start;
use block_chain_telemetry::Telemetry;
use clap::{CommandFactory as _, Parser as _};
use std::io::Write as _;
use std::process::ExitCode;

/// Runs until a signal; 0 ended, 1 could not start, 2 wrong usage.
pub async fn run() -> ExitCode {
    let settings = match Settings::parse().resolve() {
        Ok(settings) => settings,
        Err(error) => return refuse(2, &error.to_string(), None),
    };
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        return refuse(1, "TLS is set up already", None);
    }
    let level = if settings.verbose { "debug" } else { "info" };
    let telemetry = block_chain_telemetry::begin(&Telemetry {
        service: "block-chain-server",
        format: settings.log_format.unwrap_or_default(),
        colour: true,
        filter: settings.log.clone().unwrap_or_else(|| level.to_owned()),
        otlp: settings.otlp.clone(),
    });
    let _telemetry = match telemetry {
        Ok(telemetry) => telemetry,
        Err(error) => return refuse(2, &error.to_string(), None),
    };
    if let Some(command) = settings.command.clone() {
        return operate(settings, command).await;
    }
    let running = match start(settings).await {
        Ok(running) => running,
        Err(error) => {
            let code = if error.is_usage() { 2 } else { 1 };
            return refuse(code, &error.to_string(), error.hint());
        }
    };
    let mut lines = format!("listening on {}\n", running.url);
    if let Some(fingerprint) = &running.fingerprint {
        lines.push_str(&format!("certificate SHA-256 {fingerprint}\n"));
    }
    if let Some(relay) = &running.relay {
        lines.push_str(&format!("relay on {relay}\n"));
    }
    if let Some(token) = &running.new_join_token {
        lines.push_str(&format!(
            "join token (shown once, and good from now on; only its hash is kept): {token}\n"
        ));
    }
    if std::io::stdout()
        .write_all(lines.as_bytes())
        .and_then(|()| std::io::stdout().flush())
        .is_err()
    {
        tracing::debug!("nobody reads standard output");
    }
    wait_for_signal().await;
    running.stop().await;
    ExitCode::SUCCESS
}

/// What an operator does with the database, beside the server or without it.
async fn operate(settings: Settings, command: Command) -> ExitCode {
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Settings::command(), "block-chain-server", &mut script);
            return say(&String::from_utf8_lossy(&script));
        }
        Command::Man { folder } => {
            let written = std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(Settings::command(), &folder));
            return match written {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(1, &format!("cannot write to {}: {error}", folder.display()), None),
            };
        }
        _ => {}
    }
    let done = actix_web::web::block(move || match command {
        Command::Recover(what) => operating::recover(&settings, &what),
        Command::Grant(what) => operating::grant(&settings, &what),
        Command::Backup { to, keep } => operating::back_up(&settings, to, keep),
        Command::Backups { folder } => operating::backups(&settings, folder),
        Command::Restore { from, replace } => operating::restore(&settings, &from, replace),
        Command::Man { .. } | Command::Completions { .. } => Ok(String::new()),
    });
    match done.await {
        Ok(Ok(text)) => say(&text),
        Ok(Err(error)) => refuse(1, &error.to_string(), error.hint()),
        Err(error) => refuse(1, &error.to_string(), None),
    }
}

fn say(text: &str) -> ExitCode {
    let shown = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(shown.is_err()))
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}

fn refuse(code: u8, error: &str, hint: Option<&str>) -> ExitCode {
    let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    let shown =
        std::io::stderr().write_all(format!("error: {}\n{hint}", error.replace('\n', " ")).as_bytes());
    ExitCode::from(if shown.is_ok() { code } else { 1 })
}
