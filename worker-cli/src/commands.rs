//! The commands: each a client of the node, except those that need none.

mod add;
mod backup;
mod chain;
mod chains;
mod check;
mod demo;
mod doctor;
mod dump;
mod export;
mod import;
mod passphrase;
mod register;
mod show;
mod value;
mod verify;
mod wallet;

use crate::api::ApiSettings;
use crate::backup::{WorkerBackupError, finish_restore};
use crate::cli::settings::SettingsError;
use crate::cli::{Cli, Command, Global};
use crate::client::{ClientError, NodeClient, servers};
use crate::coordinator::{CoordinatorError, is_here};
use crate::dump::DatabaseUrl;
use crate::flags::{JoinFlags, NodeFlags};
use crate::identity::WorkerFile;
use crate::node::NodeSettings;
use crate::output::{self, Format};
use crate::storage::{StorageError, system_hint};
use crate::wallet::{WalletError, Wallets};
use anyhow::Context as _;
use block_chain_backup::Plan;
use block_chain_common::hash::TxId;
use block_chain_common::keys::Address;
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::Payload;
use clap::CommandFactory as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

/// A user's mistake, or something that is not there: one line, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// 1 failed, 2 usage.
    pub code: u8,
}

impl Refusal {
    fn failed(message: impl Into<String>, hint: Option<&str>) -> Self {
        Self {
            message: message.into(),
            hint: hint.map(str::to_owned),
            code: 1,
        }
    }
}

/// Runs a command; the exit code is 0 where it is done, 1 where it found something wrong.
///
/// # Errors
/// Where it cannot be done: see [`refuse`].
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let format = if cli.global.json {
        Format::Json
    } else {
        Format::People
    };
    if let Command::Completions { .. } | Command::Man { .. } = cli.command {
        return about_itself(cli.command);
    }
    let (global, from_file) = cli.global.with_file()?;
    let global = &global;
    finish_restore(&global.data_dir())?;
    match cli.command {
        Command::Register {
            join,
            snapshot,
            listen,
        } => {
            let listen = listen.or(&from_file);
            register::run(global, join, snapshot.as_deref(), &listen, format).await
        }
        Command::Run { join, listen, db_url } => {
            let database = db_url.as_deref().map(dump::parse_url).transpose()?;
            run_node(global, join, &listen.or(&from_file), database).await
        }
        Command::GetId => show::id(global, format),
        Command::Verify {
            file,
            keys,
            coordinator_key,
            chain_id,
        } => {
            let told = coordinator_key.as_deref().zip(chain_id.as_deref());
            verify::run(global, &file, (keys.as_deref(), told), format)
        }
        Command::Wallet { command } => wallet::run(global, command, format),
        Command::Chain { command } => chains::run(global, command, format).await,
        Command::Demo {
            folder,
            keep,
            records,
        } => demo::run(folder, keep, records).await,
        Command::Disconnect => register::disconnect(global, format).await,
        Command::Doctor => doctor::run(global, format).await,
        Command::Backups { folder } => backup::list(global, folder, format),
        Command::Restore { from, replace } => backup::restore(global, &from, replace, format).await,
        other => ask_node(global, other, format).await,
    }
}

/// What the program says of itself to shells and readers.
fn about_itself(command: Command) -> anyhow::Result<ExitCode> {
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "block-chain-worker", &mut script);
        output::raw(&script)?;
    } else if let Command::Man { folder } = command {
        std::fs::create_dir_all(&folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder))
            .with_context(|| format!("cannot write to {}", folder.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The commands that are clients of the node.
async fn ask_node(global: &Global, command: Command, format: Format) -> anyhow::Result<ExitCode> {
    // What needs no node is refused before one is started for it.
    if let Command::DumpData { db_url, .. } = &command {
        dump::check_url(db_url)?;
    }
    if let Command::Transaction { id } | Command::Receipt { id, .. } = &command {
        check_id(id)?;
    }
    if let Command::Import { .. } = &command {
        return import::run(global, command, format).await;
    }
    let prepared = prepare(global, &command)?;
    let node = match (NodeClient::connect(global).await, &command) {
        (Err(error), Command::CheckConsistency { repair: true }) => check::revive(global, error).await?,
        (node, _) => node?,
    };
    if let Command::CheckConsistency { repair } = command {
        return check::run(global, node, repair, format).await;
    }
    with_node(&node, command, prepared, format).await
}

/// What a node is told by its flags, `worker.toml` and its registration; where a file cannot be read, the start says so.
#[must_use]
pub fn node_flags(global: &Global, flags: &NodeFlags) -> NodeFlags {
    let from_file = global.clone().with_file().map(|(_, from_file)| from_file);
    let flags = flags.or(&from_file.unwrap_or_default());
    match WorkerFile::load(&global.data_dir()) {
        Ok(Some(worker)) => flags.or(&worker.listen),
        _ => flags,
    }
}

/// What a command needs beside the node: checked, and signed for, before anything is started or sent.
enum Prepared {
    Nothing,
    Records(add::Prepared),
    Signed(value::Signed),
    Address(Address, Option<String>),
}

fn prepare(global: &Global, command: &Command) -> anyhow::Result<Prepared> {
    let wallets = Wallets::of(&global.data_dir());
    let signed = |signer, payload| value::signed(&wallets, signer, payload).map(Prepared::Signed);
    let to = |text| value::recipient(&wallets, text);
    match command {
        Command::AddTransaction { key, value, file } => {
            let records = add::prepare(key.as_deref(), value.as_deref(), file.as_deref())?;
            Ok(Prepared::Records(records))
        }
        Command::Balance { whose } | Command::History { whose, .. } => {
            let (address, label) = value::whose(&wallets, whose.as_deref())?;
            Ok(Prepared::Address(address, label))
        }
        Command::Roles { whose: Some(whose) } => {
            Ok(Prepared::Address(value::recipient(&wallets, whose)?, None))
        }
        Command::Transfer {
            to,
            amount,
            memo,
            signer,
        } => value::transfer(&wallets, signer, (to, *amount), memo.as_deref()).map(Prepared::Signed),
        Command::Deposit {
            to: whom,
            amount,
            signer,
        } => {
            let (to, amount) = (to(whom)?, Amount::new(*amount));
            signed(signer, Payload::Deposit { to, amount })
        }
        Command::Stake { amount, signer } => {
            let amount = Amount::new(*amount);
            signed(signer, Payload::Stake { amount })
        }
        Command::Unstake { amount, signer } => {
            let amount = Amount::new(*amount);
            signed(signer, Payload::Unstake { amount })
        }
        Command::Grant {
            to: whom,
            role,
            signer,
        } => {
            let (address, role) = (to(whom)?, (*role).into());
            signed(signer, Payload::Grant { address, role })
        }
        Command::Revoke {
            to: whom,
            role,
            signer,
        } => {
            let (address, role) = (to(whom)?, (*role).into());
            signed(signer, Payload::Revoke { address, role })
        }
        _ => Ok(Prepared::Nothing),
    }
}

fn check_id(id: &str) -> anyhow::Result<()> {
    match id.parse::<TxId>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Refusal {
            message: error.to_string(),
            hint: Some("add_transaction and get_chain show ids".to_owned()),
            code: 2,
        }
        .into()),
    }
}

async fn with_node(
    node: &NodeClient,
    command: Command,
    prepared: Prepared,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match prepared {
        Prepared::Records(records) => return add::run(node, records, format).await,
        Prepared::Signed(signed) => return value::send(node, &signed, format).await,
        Prepared::Address(address, label) => {
            return match command {
                Command::History { before, limit, .. } => {
                    value::history(node, address, (before, limit), format).await
                }
                Command::Roles { .. } => value::roles(node, Some(address), format).await,
                _ => value::balance(node, (address, label), format).await,
            };
        }
        Prepared::Nothing => {}
    }
    match command {
        Command::Roles { .. } => value::roles(node, None, format).await,
        Command::GetLeader => show::leader(node, format).await,
        Command::MineBlock { wait_ms } => chain::mine(node, wait_ms, format).await,
        Command::GetChain { from, limit } => chain::get(node, from, limit, format).await,
        Command::DumpData { db_url, once } => dump::run(node, &db_url, once, format).await,
        Command::StopDumpData => dump::stop(node, format).await,
        Command::Status => show::status(node, format).await,
        Command::Get { key, history, limit } => show::record(node, &key, history, limit, format).await,
        Command::Transaction { id } => show::transaction(node, &id, format).await,
        Command::Mempool { limit } => show::mempool(node, limit, format).await,
        Command::Peers => show::peers(node, format).await,
        Command::Log { filter } => show::log(node, filter, format).await,
        Command::Receipt { id, out } => verify::receipt(node, &id, out.as_deref(), format).await,
        Command::Export {
            out,
            records,
            from,
            limit,
            tiles,
        } => match tiles {
            Some(folder) => export::tiles(node, &folder, format).await,
            None if records => export::records(node, &out, format).await,
            None => export::blocks(node, &out, (from, limit), format).await,
        },
        Command::Keys { out } => verify::keys(node, &out, format).await,
        Command::Backup { to, snapshot: true, .. } => backup::snapshot(node, to, format).await,
        Command::Backup { to, keep, .. } => backup::make(node, to, keep, format).await,
        Command::Register { .. }
        | Command::Run { .. }
        | Command::GetId
        // Prepared, and done above.
        | Command::AddTransaction { .. }
        | Command::Balance { .. }
        | Command::History { .. }
        | Command::Transfer { .. }
        | Command::Deposit { .. }
        | Command::Stake { .. }
        | Command::Unstake { .. }
        | Command::Grant { .. }
        | Command::Revoke { .. }
        | Command::Wallet { .. }
        | Command::Chain { .. }
        | Command::Import { .. }
        | Command::CheckConsistency { .. }
        | Command::Verify { .. }
        | Command::Completions { .. }
        | Command::Demo { .. }
        | Command::Backups { .. }
        | Command::Doctor
        | Command::Man { .. }
        | Command::Restore { .. }
        | Command::Disconnect => Ok(ExitCode::SUCCESS),
    }
}

async fn run_node(
    global: &Global,
    join: JoinFlags,
    listen: &NodeFlags,
    database: Option<DatabaseUrl>,
) -> anyhow::Result<ExitCode> {
    let dir = global.data_dir();
    let worker = WorkerFile::load(&dir)?;
    if worker.is_none() {
        // In a container the first start registers.
        register::register_only(global, join, listen).await?;
    }
    let (known, registered) = worker
        .map(|worker| (worker.servers, worker.listen))
        .unwrap_or_default();
    let listen = listen.or(&registered);
    let all = if global.server.is_empty() {
        known
    } else {
        global.server.clone()
    };
    let default: IpAddr = if all.iter().all(|server| is_here(server)) {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let told = (listen.backup_to.as_deref(), listen.backup_keep);
    let backups = Plan::of(listen.backup_every.as_deref(), told, &dir).map_err(anyhow::Error::msg)?;
    let settings = NodeSettings {
        servers: global.server.clone(),
        api: ApiSettings::of(&listen, &dir),
        p2p: SocketAddr::new(
            listen.p2p_bind.unwrap_or(default),
            listen.p2p_port.unwrap_or_default(),
        ),
        database,
        backups,
        data_dir: dir,
    };
    crate::node::run(settings).await?;
    Ok(ExitCode::SUCCESS)
}

/// Says why a command is refused: one `error:` line, and a `hint:` where there is something to do.
#[must_use]
pub fn refuse(error: &anyhow::Error) -> ExitCode {
    let (mut hint, mut code) = (None, 1);
    for cause in error.chain() {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            (hint, code) = (refusal.hint.clone(), refusal.code);
        } else if let Some(error) = cause.downcast_ref::<WalletError>() {
            hint = error.hint().map(str::to_owned);
        } else if let Some(error) = cause.downcast_ref::<SettingsError>() {
            (hint, code) = (Some(error.hint().to_owned()), 2);
        } else if let Some(error) = cause.downcast_ref::<WorkerBackupError>() {
            hint = error.hint().map(str::to_owned);
        } else if let Some(error) = cause.downcast_ref::<StorageError>() {
            hint = error.hint().map(str::to_owned);
        } else if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            hint = hint.or(system_hint(error.kind()).map(str::to_owned));
        } else if let Some(error) = cause.downcast_ref::<ClientError>() {
            hint = error.hint();
        } else if let Some(error) = cause.downcast_ref::<CoordinatorError>() {
            hint = error.hint();
            code = if matches!(error, CoordinatorError::Trust(_)) {
                2
            } else {
                code
            };
        }
    }
    // One line, whatever a server or a file put into it.
    let message = output::printable(&with_causes(error).replace('\n', " "));
    let hint = hint.map(|hint| format!("hint: {}\n", output::printable(&hint)));
    let hint = hint.unwrap_or_default();
    if std::io::stderr()
        .lock()
        .write_all(format!("error: {message}\n{hint}").as_bytes())
        .is_err()
    {
        tracing::debug!("nobody reads standard error");
    }
    ExitCode::from(code)
}

/// An error with its causes, but for those that it names itself.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The coordinators to register with.
fn registration_servers(global: &Global, known: Option<&WorkerFile>) -> Vec<String> {
    match known {
        Some(worker) if global.server.is_empty() => worker.servers.clone(),
        _ => servers(global),
    }
}
