//! Signed notes (C2SP `signed-note`) and cosignatures (C2SP `tlog-cosignature`).
//!
//! A note is a text and, after an empty line, one line a signature: `— NAME BASE64(key id ‖ signature)`. Signatures by
//! unknown keys are ignored, as the specification asks. A cosignature is timestamped in seconds.

use crate::hash::sha256;
use crate::keys::{PublicKey, SecretKey, Signature};
use crate::limits::MAX_CHECKPOINT_BYTES;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Signatures read from one note; more are refused.
pub const MAX_NOTE_SIGNATURES: usize = 300;

const ED25519: u8 = 0x01;
const COSIGNATURE_V1: u8 = 0x04;

/// A text that is not a signed note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Too long.
    #[error("the note has {found} bytes, at most {MAX_CHECKPOINT_BYTES} are allowed")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// No text, no empty line, or control characters.
    #[error("the note is malformed: {0}")]
    Malformed(&'static str),
    /// A signature line that is none.
    #[error("signature line {line} of the note is malformed")]
    SignatureLine {
        /// Its number, from 1.
        line: usize,
    },
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// Key id (4 bytes) and signature, as in the line.
    pub bytes: Vec<u8>,
}

/// A text with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// A note without signatures; the text must end with a newline.
    ///
    /// # Errors
    /// Where the text is empty, does not end with a newline, or holds other control characters.
    pub fn new(text: String) -> Result<Self, NoteError> {
        if !text.ends_with('\n') {
            return Err(NoteError::Malformed("its text does not end with a newline"));
        }
        if text.chars().any(|c| c != '\n' && c.is_control()) {
            return Err(NoteError::Malformed("it holds control characters"));
        }
        Ok(Self {
            text,
            signatures: Vec::new(),
        })
    }

    /// Reads a note.
    ///
    /// # Errors
    /// See [`NoteError`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_CHECKPOINT_BYTES {
            return Err(NoteError::TooLong { found: note.len() });
        }
        let (text, lines) = note
            .rsplit_once("\n\n")
            .ok_or(NoteError::Malformed("it has no empty line"))?;
        let mut parsed = Self::new(format!("{text}\n"))?;
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::Malformed("it does not end with a newline"))?;
        for (index, line) in lines.split('\n').enumerate() {
            let number = index.saturating_add(1);
            if number > MAX_NOTE_SIGNATURES {
                return Err(NoteError::Malformed("it has more than 300 signatures"));
            }
            parsed
                .signatures
                .push(parse_line(line).ok_or(NoteError::SignatureLine { line: number })?);
        }
        Ok(parsed)
    }

    /// The signed text, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Signs the text (Ed25519, algorithm 0x01).
    pub fn sign(&mut self, name: &str, key: &SecretKey) {
        let mut bytes = key_id(name, ED25519, &key.public_key()).to_vec();
        bytes.extend_from_slice(key.sign(self.text.as_bytes()).as_bytes());
        self.add(NoteSignature {
            name: name.to_owned(),
            bytes,
        });
    }

    /// Cosigns the text as a witness (algorithm 0x04) at a time in seconds since 1970.
    pub fn cosign(&mut self, name: &str, key: &SecretKey, unix_seconds: u64) {
        let mut bytes = key_id(name, COSIGNATURE_V1, &key.public_key()).to_vec();
        bytes.extend_from_slice(&unix_seconds.to_be_bytes());
        bytes.extend_from_slice(key.sign(&cosigned_bytes(&self.text, unix_seconds)).as_bytes());
        self.add(NoteSignature {
            name: name.to_owned(),
            bytes,
        });
    }

    /// Adds a signature line, in place of an earlier one of the same key.
    pub fn add(&mut self, signature: NoteSignature) {
        let same =
            |s: &NoteSignature| s.name == signature.name && s.bytes.get(..4) == signature.bytes.get(..4);
        match self.signatures.iter_mut().find(|s| same(s)) {
            Some(earlier) => *earlier = signature,
            None => self.signatures.push(signature),
        }
    }

    /// Whether a key signed the text.
    #[must_use]
    pub fn is_signed_by(&self, name: &str, key: &PublicKey) -> bool {
        let id = key_id(name, ED25519, key);
        self.of(name, id)
            .any(|signature| match <[u8; 64]>::try_from(signature) {
                Ok(bytes) => key
                    .verify(self.text.as_bytes(), &Signature::from_bytes(bytes))
                    .is_ok(),
                Err(_) => false,
            })
    }

    /// When a key cosigned the text (seconds since 1970), or `None` where it did not.
    #[must_use]
    pub fn cosigned_by(&self, name: &str, key: &PublicKey) -> Option<u64> {
        let id = key_id(name, COSIGNATURE_V1, key);
        self.of(name, id).find_map(|signature| {
            let (time, signature) = signature.split_first_chunk::<8>()?;
            let unix_seconds = u64::from_be_bytes(*time);
            let signature = Signature::from_bytes(<[u8; 64]>::try_from(signature).ok()?);
            key.verify(&cosigned_bytes(&self.text, unix_seconds), &signature)
                .ok()?;
            Some(unix_seconds)
        })
    }

    fn of(&self, name: &str, id: [u8; 4]) -> impl Iterator<Item = &[u8]> {
        let lines = self.signatures.iter().filter(move |s| s.name == name);
        lines.filter_map(move |s| s.bytes.strip_prefix(&id))
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "— {} {}", signature.name, STANDARD.encode(&signature.bytes))?;
        }
        Ok(())
    }
}

/// A verifier key of a signed note as text: `NAME+HEX(key id)+BASE64(algorithm ‖ key)`.
#[must_use]
pub fn verifier_key(name: &str, key: &PublicKey) -> String {
    let mut bytes = vec![ED25519];
    bytes.extend_from_slice(key.as_bytes());
    format!(
        "{name}+{}+{}",
        hex::encode(key_id(name, ED25519, key)),
        STANDARD.encode(bytes)
    )
}

fn parse_line(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    if name.is_empty() || name.contains('+') || name.chars().any(char::is_whitespace) {
        return None;
    }
    let bytes = STANDARD.decode(encoded).ok()?;
    (bytes.len() > 4).then(|| NoteSignature {
        name: name.to_owned(),
        bytes,
    })
}

fn key_id(name: &str, algorithm: u8, key: &PublicKey) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[algorithm], key.as_bytes()]);
    [a, b, c, d]
}

fn cosigned_bytes(text: &str, unix_seconds: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {unix_seconds}\n{text}").into_bytes()
}
