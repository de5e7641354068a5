//! `wallet`: keys of this data directory. Nothing here needs a node or a network.

use super::{Refusal, passphrase};
use crate::cli::Global;
use crate::cli::value::{NewPassphrase, WalletCommand};
use crate::identity::write_private;
use crate::output::{self, Format, facts, list};
use crate::wallet::{WORKER, Wallet, Wallets, secret_from_hex};
use block_chain_common::keys::Address;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The longest file that is imported.
const MAX_FILE_BYTES: u64 = 65_536;

pub(super) fn run(global: &Global, command: WalletCommand, format: Format) -> anyhow::Result<ExitCode> {
    let wallets = Wallets::of(&global.data_dir());
    match command {
        WalletCommand::Create {
            label,
            number,
            default,
            passphrase,
        } => {
            let secret = passphrase::new(&passphrase)?;
            let secret = secret.as_ref().map(|secret| secret.as_str());
            let made = wallets.add(None, label.as_deref(), number.as_deref(), secret)?;
            if default {
                wallets.set_default(&made.address)?;
            }
            show(&wallets, &made, format)
        }
        WalletCommand::List => all(&wallets, format),
        WalletCommand::Import {
            file,
            label,
            number,
            passphrase,
        } => {
            let text = read(&file)?;
            let taken = import(&wallets, &file, &text, (label, number), &passphrase)?;
            show(&wallets, &taken, format)
        }
        WalletCommand::Export {
            wallet,
            out,
            passphrase,
            old_passphrase_file,
        } => {
            let found = wallets.find_or_default(wallet.as_deref())?;
            let new = passphrase::new(&passphrase)?;
            let written = match &new {
                Some(new) => {
                    let key = found.open(|| passphrase::of(&name(&found), old_passphrase_file.as_deref()))?;
                    found.under(&key, Some(new.as_str()))?
                }
                None => found,
            };
            export(&written, &out, format)
        }
        WalletCommand::Default { wallet } => {
            let found = wallets.find(&wallet)?;
            wallets.set_default(&found.address)?;
            show(&wallets, &found, format)
        }
    }
}

fn import(
    wallets: &Wallets,
    file: &Path,
    text: &str,
    (label, number): (Option<String>, Option<String>),
    passphrase: &NewPassphrase,
) -> anyhow::Result<Wallet> {
    if !text.trim_start().starts_with('{') {
        let key = secret_from_hex(text)?;
        let secret = passphrase::new(passphrase)?;
        let secret = secret.as_ref().map(|secret| secret.as_str());
        return Ok(wallets.add(Some(&key), label.as_deref(), number.as_deref(), secret)?);
    }
    let told = label.is_some() || number.is_some();
    if told || passphrase.passphrase || passphrase.passphrase_file.is_some() {
        let message = "a wallet's file has its own label, number and passphrase";
        return Err(Refusal::failed(message, Some("import it as it is")).into());
    }
    Ok(wallets.import(text, file)?)
}

fn read(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let refused =
        |error: std::io::Error| Refusal::failed(format!("cannot read {}: {error}", file.display()), None);
    let mut text = Zeroizing::new(String::new());
    let mut limited: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock().take(MAX_FILE_BYTES))
    } else {
        Box::new(std::fs::File::open(file).map_err(refused)?.take(MAX_FILE_BYTES))
    };
    limited.read_to_string(&mut text).map_err(refused)?;
    Ok(text)
}

fn export(wallet: &Wallet, out: &Path, format: Format) -> anyhow::Result<ExitCode> {
    let text = wallet.to_text();
    if out == Path::new("-") {
        output::raw(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if out.exists() {
        let message = format!("{} is there already", out.display());
        return Err(Refusal::failed(message, Some("a key is never written over; name another file")).into());
    }
    write_private(out, text.as_bytes())?;
    if format == Format::Json {
        output::json(&json!({ "file": out, "address": wallet.address, "encrypted": wallet.is_locked() }))?;
    } else {
        let how = if wallet.is_locked() {
            "encrypted"
        } else {
            "NOT encrypted: whoever reads it can spend"
        };
        output::line(&format!("{} is in {}, {how}", name(wallet), out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What people call it.
pub(super) fn name(wallet: &Wallet) -> String {
    let names = [&wallet.label, &wallet.number];
    let first = names.into_iter().flatten().next();
    first.cloned().unwrap_or_else(|| wallet.address.to_string())
}

fn json_of(wallet: &Wallet, default: Option<&Address>) -> Value {
    json!({
        "address": wallet.address,
        "label": wallet.label,
        "number": wallet.number,
        "public_key": wallet.public_key,
        "encrypted": wallet.is_locked(),
        "default": default == Some(&wallet.address),
    })
}

fn default_of(wallets: &Wallets) -> Option<Address> {
    wallets.find_or_default(None).ok().map(|wallet| wallet.address)
}

fn show(wallets: &Wallets, wallet: &Wallet, format: Format) -> anyhow::Result<ExitCode> {
    let default = default_of(wallets);
    if format == Format::Json {
        output::json(&json_of(wallet, default.as_ref()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![("address", wallet.address.to_string())];
    rows.extend(wallet.label.clone().map(|label| ("label", label)));
    rows.extend(wallet.number.clone().map(|number| ("number", number)));
    rows.push(("key", key_text(wallet).to_owned()));
    if default == Some(wallet.address) {
        rows.push(("default", "yes".to_owned()));
    }
    output::line(&facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn key_text(wallet: &Wallet) -> &'static str {
    if wallet.is_locked() {
        "encrypted"
    } else if wallet.label.as_deref() == Some(WORKER) {
        "the worker's own"
    } else {
        "readable by this user"
    }
}

fn all(wallets: &Wallets, format: Format) -> anyhow::Result<ExitCode> {
    let found = wallets.list()?;
    let default = default_of(wallets);
    if format == Format::Json {
        let wallets: Vec<Value> = found
            .iter()
            .map(|wallet| json_of(wallet, default.as_ref()))
            .collect();
        output::json(&json!({ "wallets": wallets, "count": wallets.len() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        output::line("there is no wallet yet: wallet create --label NAME")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = found.iter().map(|wallet| {
        vec![
            wallet.label.clone().unwrap_or_default(),
            wallet.number.clone().unwrap_or_default(),
            wallet.address.to_string(),
            key_text(wallet).to_owned(),
            if default == Some(wallet.address) {
                "yes"
            } else {
                ""
            }
            .to_owned(),
        ]
    });
    let header = ["Label", "Number", "Address", "Key", "Default"];
    output::line(&list(&header, rows.collect()))?;
    Ok(ExitCode::SUCCESS)
}
