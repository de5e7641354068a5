//! Entries of a state in one order, each once.

use super::archive::{ArchiveError, unsound};
use super::write::bytes;
use block_chain_common::state::StateKey;

/// Bytes of a key that a refusal shows.
const SHOWN: usize = 40;

/// The key that came last, encoded.
///
/// The state's hash is a sum in lanes of 16 bits: 65,536 copies of an entry add nothing to it, whatever they say, and the
/// last write of a key wins. So the digest judges a state only where no key comes twice, and order shows that without a list
/// of all keys.
#[derive(Debug, Default)]
pub(super) struct Ascending(Option<Vec<u8>>);

impl Ascending {
    /// Takes the next key.
    ///
    /// # Errors
    /// Where it does not come after the one before it.
    pub(super) fn take(&mut self, key: &StateKey) -> Result<(), ArchiveError> {
        let key = bytes(key);
        if let Some(last) = self.0.as_ref().filter(|last| **last >= key) {
            return Err(unsound(format!(
                "key {} of the state comes after {}, and only a greater one may",
                shown(&key),
                shown(last)
            )));
        }
        self.0 = Some(key);
        Ok(())
    }
}

fn shown(key: &[u8]) -> String {
    hex::encode(key.get(..SHOWN).unwrap_or(key))
}
