//! Value and roles: balances, transfers, deposits, stake, grants. What is signed is signed here: keys never leave.

use super::chain::status as state;
use super::show::path_part;
use super::{Refusal, passphrase, wallet};
use crate::api::types::{
    Accepted, AccountView, HistoryView, Movement, NodeStatus, RolesView, TransactionsRequest,
};
use crate::cli::value::Signer;
use crate::client::{ClientError, NodeClient};
use crate::output::{self, Format, facts, list};
use crate::wallet::{Wallet, Wallets};
use block_chain_common::codec::{BoundedBytes, encode};
use block_chain_common::keys::{Address, SecretKey};
use block_chain_common::limits::MAX_MEMO_BYTES;
use block_chain_common::quantity::Amount;
use block_chain_common::transaction::{Payload, Role, Transaction};
use serde::Serialize;
use serde_json::json;
use std::process::ExitCode;

/// How often a transaction is signed anew where another took its nonce.
const TRIES: usize = 20;

type Done = anyhow::Result<ExitCode>;

/// What is to be signed, and the key for it.
pub(super) struct Signed {
    wallet: Wallet,
    key: SecretKey,
    payload: Payload,
}

/// A transfer, checked as far as it can be without a node.
pub(super) fn transfer(
    wallets: &Wallets,
    signer: &Signer,
    (to, amount): (&str, u64),
    memo: Option<&str>,
) -> anyhow::Result<Signed> {
    let memo = memo.unwrap_or_default();
    let bytes = BoundedBytes::new(memo.as_bytes().to_vec()).map_err(|_error| {
        let found = memo.len();
        Refusal::failed(
            format!("the memo has {found} bytes, at most {MAX_MEMO_BYTES} are allowed"),
            None,
        )
    })?;
    let payload = Payload::Transfer {
        to: recipient(wallets, to)?,
        amount: Amount::new(amount),
        memo: bytes,
    };
    signed(wallets, signer, payload)
}

/// What one wallet does alone, or to an address.
pub(super) fn signed(wallets: &Wallets, signer: &Signer, payload: Payload) -> anyhow::Result<Signed> {
    let wallet = wallets.find_or_default(signer.from.as_deref())?;
    if matches!(&payload, Payload::Transfer { to, .. } if *to == wallet.address) {
        let message = format!("{} is the sender's own address", wallet.address);
        return Err(
            Refusal::failed(message, Some("--from names another wallet, --to another address")).into(),
        );
    }
    let key = wallet.open(|| passphrase::of(&wallet::name(&wallet), signer.passphrase_file.as_deref()))?;
    Ok(Signed { wallet, key, payload })
}

/// An address, or what a wallet here is called.
pub(super) fn recipient(wallets: &Wallets, text: &str) -> anyhow::Result<Address> {
    match text.parse::<Address>() {
        Ok(address) => Ok(address),
        // What looks like an address is meant as one: a mistyped one is no label.
        Err(error) if text.to_ascii_lowercase().starts_with("bcw") => Err(Refusal {
            message: error.to_string(),
            hint: Some("an address is copied, never typed; nothing was sent".to_owned()),
            code: 2,
        }
        .into()),
        Err(_) => Ok(wallets.find(text)?.address),
    }
}

/// Signs it with the wallet's next nonce and hands it in; signs it again where another command was faster.
pub(super) async fn send(node: &NodeClient, signed: &Signed, format: Format) -> Done {
    let status: NodeStatus = node.get("/v1/status", &[]).await?;
    let account = format!("/v1/accounts/{}", signed.wallet.address);
    let mut tries = 0;
    let accepted: Accepted = loop {
        tries += 1;
        let view: AccountView = node.get(&account, &[]).await?;
        let (payload, key) = (signed.payload.clone(), &signed.key);
        let transaction = Transaction::sign(status.chain_id, view.next_nonce, payload, key);
        let request = TransactionsRequest {
            transactions: vec![hex::encode(encode(&transaction))],
        };
        match node.post("/v1/transactions", &request).await {
            Err(ClientError::Refused(error)) if error.message.contains("MEM-1:") && tries < TRIES => {}
            answered => break answered?,
        }
    };
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(flatten)]
        accepted: &'a Accepted,
        from: Address,
    }
    if format == Format::Json {
        output::json(&Answer {
            accepted: &accepted,
            from: signed.wallet.address,
        })?;
    } else if let Some(id) = accepted.transaction_ids.first() {
        output::line(&format!("pending: {id}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose balance or history is asked for: the default wallet's where nobody is named.
pub(super) fn whose(wallets: &Wallets, named: Option<&str>) -> anyhow::Result<(Address, Option<String>)> {
    match named {
        None => {
            let found = wallets.find_or_default(None)?;
            Ok((found.address, found.label))
        }
        Some(text) => {
            let address = recipient(wallets, text)?;
            let label = wallets
                .find(&address.to_string())
                .ok()
                .and_then(|found| found.label);
            Ok((address, label))
        }
    }
}

pub(super) async fn balance(
    node: &NodeClient,
    (address, label): (Address, Option<String>),
    format: Format,
) -> Done {
    let account: AccountView = node.get(&format!("/v1/accounts/{address}"), &[]).await?;
    if format == Format::Json {
        let mut answer = serde_json::to_value(&account)?;
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("label".to_owned(), json!(label));
        }
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let units = |amount: Amount| output::units(i128::from(amount.get()), account.decimals);
    let mut rows = vec![("address", address.to_string())];
    rows.extend(label.map(|label| ("label", label)));
    rows.push(("confirmed", units(account.confirmed)));
    if account.pending != 0 {
        rows.push(("pending", signed_units(account.pending, account.decimals)));
    }
    rows.push(("can be spent", units(account.available)));
    if account.stake > Amount::ZERO {
        rows.push(("stake", units(account.stake)));
    }
    for release in &account.releasing {
        let until = format!("{}, free from block {} on", units(release.amount), release.from);
        rows.push(("unstaked", until));
    }
    if !account.roles.is_empty() {
        rows.push(("roles", names(&account.roles)));
    }
    output::line(&facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn names(roles: &[Role]) -> String {
    let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn signed_units(amount: i128, decimals: u8) -> String {
    let sign = if amount > 0 { "+" } else { "" };
    format!("{sign}{}", output::units(amount, decimals))
}

pub(super) async fn history(
    node: &NodeClient,
    address: Address,
    (before, limit): (Option<String>, usize),
    format: Format,
) -> Done {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(before.map(|before| ("before", before)));
    let found: HistoryView = node
        .get(&format!("/v1/accounts/{address}/history"), &query)
        .await?;
    if format == Format::Json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.entries.is_empty() {
        output::line(&format!("nothing concerned {address} yet"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = found
        .entries
        .iter()
        .map(|entry| history_row(entry, found.decimals));
    let header = ["#Block", "Time (UTC)", "Type", "#Change", "With", "Note", "State"];
    output::line(&list(&header, rows.collect()))?;
    if let Some(next) = &found.next {
        output::note(&format!("more: history {address} --before {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn history_row(entry: &Movement, decimals: u8) -> Vec<String> {
    let note = match (&entry.memo, entry.role, entry.amount) {
        (Some(memo), ..) => memo.clone(),
        (None, Some(role), _) => role.to_string(),
        // What is unstaked is free later.
        (None, None, Some(amount)) if entry.change == 0 => output::units(i128::from(amount.get()), decimals),
        _ => String::new(),
    };
    vec![
        entry.block.map(|block| block.to_string()).unwrap_or_default(),
        entry.timestamp.map(output::utc).unwrap_or_default(),
        entry.kind.clone(),
        if entry.change == 0 {
            String::new()
        } else {
            signed_units(entry.change, decimals)
        },
        entry.with.map(|with| with.to_string()).unwrap_or_default(),
        note,
        state(entry.status).to_owned(),
    ]
}

pub(super) async fn roles(node: &NodeClient, of: Option<Address>, format: Format) -> Done {
    if let Some(address) = of {
        let account: AccountView = node
            .get(&format!("/v1/accounts/{}", path_part(&address.to_string())), &[])
            .await?;
        let view: RolesView = node.get("/v1/roles", &[("limit", "1".to_owned())]).await?;
        if format == Format::Json {
            output::json(&json!({ "address": address, "roles": account.roles, "open": view.open }))?;
        } else {
            let own = match names(&account.roles) {
                none if none.is_empty() => "none".to_owned(),
                some => some,
            };
            output::line(&facts(&[
                ("address", address.to_string()),
                ("roles", own),
                ("open to all", names(&view.open)),
            ]))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut all: RolesView = node.get("/v1/roles", &[("limit", "1000".to_owned())]).await?;
    while let Some(after) = all.next {
        let query = [("limit", "1000".to_owned()), ("after", after.to_string())];
        let more: RolesView = node.get("/v1/roles", &query).await?;
        all.holders.extend(more.holders);
        all.next = more.next;
    }
    if format == Format::Json {
        output::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = all
        .holders
        .iter()
        .map(|holder| vec![holder.address.to_string(), names(&holder.roles)]);
    output::line(&list(&["Address", "Roles"], rows.collect()))?;
    output::line(&match names(&all.open) {
        none if none.is_empty() => "no role is open to all".to_owned(),
        open => format!("open to all: {open}"),
    })?;
    Ok(ExitCode::SUCCESS)
}
