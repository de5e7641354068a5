//! What an operator does with the coordinator's database: `block-chain-server recover` and `grant`.

use crate::service::{Join, Plan, Service};
use crate::settings::{Grant, Recover, Settings};
use crate::{SQLITE_FILE, StartError, open_store, routes};

/// Gives a role; what the operator is told.
pub(crate) fn grant(settings: &Settings, what: &Grant) -> Result<String, StartError> {
    let id = open(settings)?.grant(&what.chain, what.to, what.role.into())?;
    let (chain, to) = (&what.chain, what.to);
    Ok(format!(
        "signed: {id}\n{to} gets its role on chain {chain} with the next block; block-chain-worker roles {to} shows it\n"
    ))
}

/// The coordinator's rules on its database, which must be there: none of this begins a new, empty network.
fn open(settings: &Settings) -> Result<Service, StartError> {
    let path = settings.data_dir().join(SQLITE_FILE);
    if settings.database_url.is_none() && !path.is_file() {
        return Err(StartError::File {
            path: path.display().to_string(),
            reason: "there is no coordinator's database".to_owned(),
        });
    }
    let store = open_store(settings)?;
    Ok(Service::start(store, settings.service(), Join::Open, |_| {})?)
}

/// Does what is asked, or says what it would do.
pub(crate) fn recover(settings: &Settings, what: &Recover) -> Result<String, StartError> {
    let service = open(settings)?;
    let now = routes::now();
    if what.yes {
        let plan = service.recover(&what.chain, what.without_missing, now)?;
        return Ok(describe(&plan, &what.chain, true));
    }
    let plan = service.plan_recovery(&what.chain, now)?;
    Ok(describe(&plan, &what.chain, false))
}

fn describe(plan: &Plan, chain: &str, done: bool) -> String {
    let mut lines = Vec::new();
    let recovery = &plan.recovery;
    for member in &plan.members {
        let name = member.name.as_deref().unwrap_or("-");
        let state = match (member.heard, member.shows) {
            (false, _) => "not heard within a minute".to_owned(),
            (true, None) => "has nothing that is not known here".to_owned(),
            (true, Some((0, term))) => format!("has seen term {term}"),
            (true, Some((size, term))) => {
                format!("holds a checkpoint of {size} blocks, has seen term {term}")
            }
        };
        lines.push(format!("{}  {name:<12} {state}", member.worker));
    }
    let tense = if done { "is now" } else { "would be" };
    lines.push(format!(
        "chain {chain}: committed {tense} {} blocks (was {}), the term {} (was {})",
        recovery.size.1, recovery.size.0, recovery.term.1, recovery.term.0
    ));
    let silent = plan.members.iter().filter(|member| !member.heard).count();
    if done {
        lines.push(format!(
            "the statement of it is signed and kept: GET /v1/chains/{chain}/recoveries"
        ));
    } else if silent > 0 {
        lines.push(format!(
            "nothing is done: {silent} members were not heard; let all run for a minute, or add --without-missing --yes"
        ));
    } else {
        lines.push("nothing is done yet: run it again with --yes".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
