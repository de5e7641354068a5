//! The worker's program: arguments in, exit code out.

use block_chain_worker::cli::Cli;
use block_chain_worker::commands;
use clap::Parser as _;
use std::process::ExitCode;
use std::time::Duration;

/// Gives memory back to the system when a sync or a large block is over, which the C library's allocator does not: a node
/// at rest is then a third of the size.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long a node's last tasks have to end: everything is on disk already.
const LAST_TASKS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.global.verbose { "debug" } else { "warn" };
    let is_node = matches!(cli.command, block_chain_worker::cli::Command::Run { .. });
    let level = if is_node { "info" } else { level };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| format!("warn,block_chain_worker={level}").into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("TLS is set up already");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return commands::refuse(&anyhow::Error::new(error)),
    };
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => commands::refuse(&error),
    };
    if is_node {
        // The last task to end closes the store, which then has no journal for the next start to read.
        runtime.shutdown_timeout(LAST_TASKS);
    } else {
        // What is left are reads that nobody waits for.
        runtime.shutdown_background();
    }
    code
}
