//! The worker's program: arguments in, exit code out.

use block_chain_telemetry::Telemetry;
use block_chain_worker::cli::{Cli, Command};
use block_chain_worker::commands;
use block_chain_worker::flags::NodeFlags;
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
    let is_node = matches!(cli.command, Command::Run { .. });
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("TLS is set up already");
    }
    let telemetry = match block_chain_telemetry::begin(&told(&cli)) {
        Ok(telemetry) => telemetry,
        Err(error) => return commands::refuse(&anyhow::Error::new(error)),
    };
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
    drop(telemetry);
    code
}

/// What is logged: of a node what its flags say, or its files; of another command little.
fn told(cli: &Cli) -> Telemetry {
    let flags = match &cli.command {
        Command::Run { listen, .. } => commands::node_flags(&cli.global, listen),
        _ => NodeFlags::default(),
    };
    let level = match cli.command {
        Command::Run { .. } => "info",
        _ if cli.global.verbose => "debug",
        _ => "warn",
    };
    Telemetry {
        service: "block-chain-worker",
        format: flags.log_format.unwrap_or_default(),
        colour: false,
        filter: flags
            .log
            // The relay's transport calls its own end an error, whether or not there is a relay.
            .unwrap_or_else(|| {
                format!("warn,iroh::socket::transports::relay=off,block_chain_worker={level}")
            }),
        otlp: flags.otlp,
    }
}
