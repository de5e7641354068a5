//! The database's URL at rest: encrypted under a key that follows from the worker's.

use block_chain_common::keys::SecretKey;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

const CONTEXT: &str = "block-chain database URL v1";
const NONCE_BYTES: usize = 24;

fn cipher(key: &SecretKey) -> XChaCha20Poly1305 {
    let derived = Zeroizing::new(blake3::derive_key(CONTEXT, key.seed().as_ref()));
    XChaCha20Poly1305::new(&Key::from(*derived))
}

/// `nonce ‖ ciphertext`.
pub(super) fn seal(key: &SecretKey, text: &str) -> Result<Vec<u8>, String> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
    let sealed = cipher(key)
        .encrypt(&XNonce::from(nonce), text.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// What [`seal`] sealed; an error where it was changed, or another key sealed it.
pub(super) fn open(key: &SecretKey, sealed: &[u8]) -> Result<Zeroizing<String>, String> {
    let (nonce, sealed) = sealed
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or("the stored URL is cut off")?;
    let opened = cipher(key).decrypt(&XNonce::from(*nonce), sealed);
    let opened = opened.or(Err(
        "the stored URL was changed, or is another worker's".to_owned()
    ))?;
    String::from_utf8(opened)
        .map(Zeroizing::new)
        .or(Err("the stored URL is not text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_url_opens_with_its_own_key_alone() {
        let (key, other) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let sealed = seal(&key, "postgresql://u:secret@h/d").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(open(&key, &sealed).unwrap().as_str(), "postgresql://u:secret@h/d");
        assert!(open(&other, &sealed).is_err());
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert!(open(&key, &changed).is_err() && open(&key, &[1, 2]).is_err());
    }
}
