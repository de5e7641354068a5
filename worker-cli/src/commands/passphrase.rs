//! Passphrases: from a file's first line, or typed without echo. Never from the command line, which others can list.

use super::Refusal;
use crate::cli::value::NewPassphrase;
use std::io::IsTerminal as _;
use std::path::Path;
use zeroize::Zeroizing;

/// A file with a passphrase is not longer.
const MAX_FILE_BYTES: u64 = 65_536;

/// The passphrase of a key that is put away now; `None` where none is wanted.
pub(super) fn new(wanted: &NewPassphrase) -> anyhow::Result<Option<Zeroizing<String>>> {
    if let Some(file) = &wanted.passphrase_file {
        return first_line(file).map(Some);
    }
    if !wanted.passphrase {
        return Ok(None);
    }
    let first = ask("Passphrase: ")?;
    let again = ask("The same again: ")?;
    if *first != *again {
        return Err(Refusal::failed("the passphrases differ", Some("nothing was changed")).into());
    }
    Ok(Some(first))
}

/// The passphrase of a key that is to be used; `None` where there is nobody to ask.
pub(super) fn of(whose: &str, file: Option<&Path>) -> anyhow::Result<Option<Zeroizing<String>>> {
    match file {
        Some(file) => first_line(file).map(Some),
        None if std::io::stdin().is_terminal() => ask(&format!("Passphrase of {whose}: ")).map(Some),
        None => Ok(None),
    }
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let typed = rpassword::prompt_password(prompt);
    let typed = typed.map_err(|error| {
        let message = format!("no passphrase can be typed here: {error}");
        Refusal::failed(message, Some("--passphrase-file FILE reads it from a file"))
    })?;
    Ok(Zeroizing::new(typed))
}

fn first_line(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let refused = |reason: String| Refusal::failed(format!("cannot read {}: {reason}", file.display()), None);
    let length = std::fs::metadata(file)
        .map_err(|error| refused(error.to_string()))?
        .len();
    if length > MAX_FILE_BYTES {
        return Err(refused(format!(
            "it has {length} bytes, at most {MAX_FILE_BYTES} are allowed"
        ))
        .into());
    }
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| refused(error.to_string()))?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
        None => Err(refused("its first line is empty".to_owned()).into()),
    }
}
