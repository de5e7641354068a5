//! A key encrypted under a passphrase: Argon2id (RFC 9106) makes a key of it, XChaCha20-Poly1305 encrypts.

use super::WalletError;
use argon2::{Algorithm, Argon2, Params, Version};
use block_chain_common::keys::{Address, SecretKey};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What one try of a passphrase costs: 64 MiB and three passes, RFC 9106's second recommendation, in about a tenth of a
/// second.
const MEMORY_KIB: u32 = 65_536;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What a file may ask for, so that one from elsewhere cannot take this machine's memory or its time.
const MAX_MEMORY_KIB: u32 = 1_048_576;
const MAX_PASSES: u32 = 20;
const MAX_LANES: u32 = 16;

/// What is kept of an encrypted key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// Argon2id's memory, in KiB.
    memory_kib: u32,
    /// Argon2id's passes.
    passes: u32,
    /// Argon2id's lanes.
    lanes: u32,
    #[serde(with = "hex::serde")]
    salt: [u8; 16],
    #[serde(with = "hex::serde")]
    nonce: [u8; 24],
    /// The seed and its tag; the address is authenticated with them.
    #[serde(with = "hex::serde")]
    sealed: [u8; 48],
}

impl Sealed {
    pub(super) fn seal(key: &SecretKey, address: &Address, passphrase: &str) -> Result<Self, WalletError> {
        let (mut salt, mut nonce) = ([0; 16], [0; 24]);
        for random in [salt.as_mut_slice(), nonce.as_mut_slice()] {
            getrandom::fill(random).map_err(|error| WalletError::Sealing(error.to_string()))?;
        }
        let mut sealed = Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt,
            nonce,
            sealed: [0; 48],
        };
        let cipher = sealed.cipher(passphrase).map_err(WalletError::Sealing)?;
        let seed = key.seed();
        let encrypted = cipher.encrypt(
            &XNonce::from(nonce),
            Payload {
                msg: seed.as_slice(),
                aad: address.as_bytes(),
            },
        );
        let encrypted = encrypted.map_err(|error| WalletError::Sealing(error.to_string()))?;
        sealed.sealed = <[u8; 48]>::try_from(encrypted)
            .or(Err(WalletError::Sealing("it has another length".to_owned())))?;
        Ok(sealed)
    }

    pub(super) fn open(&self, address: &Address, passphrase: &str) -> Result<SecretKey, WalletError> {
        let wrong = || WalletError::Passphrase(*address);
        let cipher = self.cipher(passphrase).map_err(WalletError::Sealing)?;
        let opened = cipher.decrypt(
            &XNonce::from(self.nonce),
            Payload {
                msg: &self.sealed,
                aad: address.as_bytes(),
            },
        );
        let opened = Zeroizing::new(opened.or(Err(wrong()))?);
        let seed = <&[u8; 32]>::try_from(opened.as_slice()).or(Err(wrong()))?;
        Ok(SecretKey::from_seed(seed))
    }

    fn cipher(&self, passphrase: &str) -> Result<XChaCha20Poly1305, String> {
        let Self {
            memory_kib,
            passes,
            lanes,
            ..
        } = *self;
        if memory_kib > MAX_MEMORY_KIB || passes > MAX_PASSES || lanes > MAX_LANES {
            return Err(format!(
                "it asks for {memory_kib} KiB, {passes} passes and {lanes} lanes, at most {MAX_MEMORY_KIB}, {MAX_PASSES} and {MAX_LANES} are allowed"
            ));
        }
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|error| error.to_string())?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &self.salt, key.as_mut())
            .map_err(|error| error.to_string())?;
        Ok(XChaCha20Poly1305::new(&Key::from(*key)))
    }
}
