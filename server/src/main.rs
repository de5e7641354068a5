//! The coordinator's program.

use std::process::ExitCode;

#[actix_web::main]
async fn main() -> ExitCode {
    block_chain_server::program::run().await
}
