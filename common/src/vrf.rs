//! Verifiable random functions: ECVRF-EDWARDS25519-SHA512-ELL2 (RFC 9381, section 5 and suite 0x04 of section 5.5).
//!
//! The holder of a key makes, for an input, the one output that its public key admits, and a proof of it. Keys are those of
//! signatures (RFC 8032). Points are taken in their one canonical encoding, and keys of small order are refused
//! (`validate_key`), so that no key has two outputs.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "points and scalars are of a group: nothing overflows"
)]

use crate::keys::{PublicKey, SecretKey};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

const SUITE: u8 = 0x04;
/// `"ECVRF_" ‖ h2c_suite_ID_string ‖ suite_string` (RFC 9381, section 5.4.1.2).
const ENCODE_TO_CURVE: &[u8] = b"ECVRF_edwards25519_XMD:SHA-512_ELL2_NU_\x04";
/// Bytes of a proof: a point, a challenge of 16 bytes, a scalar.
pub const PROOF_BYTES: usize = 80;

/// What a key makes of an input, uniform to whoever does not hold the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output([u8; 64]);

impl Output {
    /// The bytes (`beta_string`).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VrfError {
    /// The public key is no point in canonical form, or of small order.
    #[error("the public key is not one that a verifiable random function can have")]
    Key,
    /// The proof is not a point and two numbers in canonical form.
    #[error("the proof of the verifiable random function is malformed")]
    Malformed,
    /// It is not the proof of this key for this input.
    #[error("the proof of the verifiable random function is not this key's for this input")]
    Wrong,
}

/// The output of a key for an input, with its proof (section 5.1).
#[must_use]
pub fn prove(key: &SecretKey, input: &[u8]) -> ([u8; PROOF_BYTES], Output) {
    let hashed = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(*key.seed())));
    let (mut low, mut high) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    let (first, second) = hashed.split_at(32);
    low.copy_from_slice(first);
    high.copy_from_slice(second);
    let secret = Zeroizing::new(Scalar::from_bytes_mod_order(clamp_integer(*low)));
    let public = key.public_key();
    let base = encode_to_curve(&public, input);
    let gamma = *secret * base;
    // Section 5.4.2.2: the nonce follows from the key and the input, as in RFC 8032.
    let nonce = Sha512::new()
        .chain_update(*high)
        .chain_update(base.compress().as_bytes())
        .finalize();
    let nonce = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&nonce.into()));
    let (u, v) = (EdwardsPoint::mul_base(&nonce), *nonce * base);
    let challenge = challenge(&public, [&base, &gamma, &u, &v]);
    let response = *nonce + scalar(&challenge) * *secret;
    let mut proof = [0; PROOF_BYTES];
    proof[..32].copy_from_slice(gamma.compress().as_bytes());
    proof[32..48].copy_from_slice(&challenge);
    proof[48..].copy_from_slice(response.as_bytes());
    (proof, output(&gamma))
}

/// The output that a proof shows to be the key's for the input (section 5.3, with `validate_key`).
///
/// # Errors
/// Where it does not.
pub fn verify(key: &PublicKey, input: &[u8], proof: &[u8; PROOF_BYTES]) -> Result<Output, VrfError> {
    let public = point(key.as_bytes()).filter(|point| !point.is_small_order());
    let public = public.ok_or(VrfError::Key)?;
    let (mut gamma, mut given, mut response) = ([0; 32], [0; 16], [0; 32]);
    gamma.copy_from_slice(&proof[..32]);
    given.copy_from_slice(&proof[32..48]);
    response.copy_from_slice(&proof[48..]);
    let gamma = point(&gamma).ok_or(VrfError::Malformed)?;
    let response: Option<Scalar> = Scalar::from_canonical_bytes(response).into();
    let response = response.ok_or(VrfError::Malformed)?;
    let base = encode_to_curve(key, input);
    let minus = -scalar(&given);
    let u = EdwardsPoint::vartime_double_scalar_mul_basepoint(&minus, &public, &response);
    let v = response * base + minus * gamma;
    if challenge(key, [&base, &gamma, &u, &v]) == given {
        Ok(output(&gamma))
    } else {
        Err(VrfError::Wrong)
    }
}

/// The output that a proof has, whoever's it is (section 5.2): for who has verified it, or made it.
#[must_use]
pub fn output_of(proof: &[u8; PROOF_BYTES]) -> Option<Output> {
    let gamma = proof.first_chunk::<32>()?;
    point(gamma).map(|gamma| output(&gamma))
}

/// Section 5.4.1.2, with the public key as salt.
fn encode_to_curve(key: &PublicKey, input: &[u8]) -> EdwardsPoint {
    EdwardsPoint::encode_to_curve::<Sha512>(&[key.as_bytes(), input], &[ENCODE_TO_CURVE])
}

/// Section 5.4.3.
fn challenge(key: &PublicKey, points: [&EdwardsPoint; 4]) -> [u8; 16] {
    let mut hasher = Sha512::new()
        .chain_update([SUITE, 0x02])
        .chain_update(key.as_bytes());
    for point in points {
        hasher.update(point.compress().as_bytes());
    }
    let hash = <[u8; 64]>::from(hasher.chain_update([0x00]).finalize());
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    short
}

/// A challenge as a number: 16 little-endian bytes.
fn scalar(challenge: &[u8; 16]) -> Scalar {
    Scalar::from(u128::from_le_bytes(*challenge))
}

/// Section 5.2.
fn output(gamma: &EdwardsPoint) -> Output {
    let hash = Sha512::new()
        .chain_update([SUITE, 0x03])
        .chain_update(gamma.mul_by_cofactor().compress().as_bytes())
        .chain_update([0x00]);
    Output(hash.finalize().into())
}

/// A point in the encoding of RFC 8032, which has one for each.
fn point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    let compressed = CompressedEdwardsY(*bytes);
    compressed
        .decompress()
        .filter(|point| point.compress() == compressed)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that meets what it does not expect has failed"
    )]

    use super::*;

    /// RFC 9381, appendix B.4, examples 19 to 21: secret key, public key, input, proof, output.
    const PUBLISHED: [[&str; 5]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "7d9c633ffeee27349264cf5c667579fc583b4bda63ab71d001f89c10003ab46f14adf9a3cd8b8412d9038531e865c341cafa73589b023d14311c331a9ad15ff2fb37831e00f0acaa6d73bc9997b06501",
            "9d574bf9b8302ec0fc1e21c3ec5368269527b87b462ce36dab2d14ccf80c53cccf6758f058c5b1c856b116388152bbe509ee3b9ecfe63d93c3b4346c1fbc6c54",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "47b327393ff2dd81336f8a2ef10339112401253b3c714eeda879f12c509072ef055b48372bb82efbdce8e10c8cb9a2f9d60e93908f93df1623ad78a86a028d6bc064dbfc75a6a57379ef855dc6733801",
            "38561d6b77b71d30eb97a062168ae12b667ce5c28caccdf76bc88e093e4635987cd96814ce55b4689b3dd2947f80e59aac7b7675f8083865b46c89b2ce9cc735",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "926e895d308f5e328e7aa159c06eddbe56d06846abf5d98c2512235eaa57fdce35b46edfc655bc828d44ad09d1150f31374e7ef73027e14760d42e77341fe05467bb286cc2c9d7fde29120a0b2320d04",
            "121b7f9b9aaaa29099fc04a94ba52784d44eac976dd1a3cca458733be5cd090a7b5fbd148444f17f8daf1fb55cb04b1ae85a626e30a54b4b0f8abf4a43314a58",
        ],
    ];

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_published_examples_hold() {
        for [secret, public, input, proof, beta] in PUBLISHED {
            let (key, input) = (SecretKey::from_seed(&bytes(secret)), hex::decode(input).unwrap());
            assert_eq!(key.public_key().as_bytes(), &bytes(public));
            let (made, output) = prove(&key, &input);
            assert_eq!(hex::encode(made), proof);
            assert_eq!(hex::encode(output.as_bytes()), beta);
            assert_eq!(verify(&key.public_key(), &input, &made), Ok(output));
        }
    }

    #[test]
    fn another_key_input_or_bit_proves_nothing() {
        let (key, other) = (
            SecretKey::from_seed(&[1; 32]),
            SecretKey::from_seed(&[2; 32]).public_key(),
        );
        let (proof, _) = prove(&key, b"slot 7");
        let public = key.public_key();
        assert!(verify(&public, b"slot 7", &proof).is_ok());
        assert_eq!(verify(&public, b"slot 8", &proof), Err(VrfError::Wrong));
        assert_eq!(verify(&other, b"slot 7", &proof), Err(VrfError::Wrong));
        for bit in 0..PROOF_BYTES * 8 {
            let mut changed = proof;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&public, b"slot 7", &changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn keys_and_numbers_that_are_not_canonical_are_refused() {
        let key = SecretKey::from_seed(&[1; 32]);
        let (proof, _) = prove(&key, b"x");
        // The neutral point, one of order two, one that is no point, and the neutral one written as 1 + p.
        let mut two = [0xff; 32];
        (two[0], two[31]) = (0xec, 0x7f);
        let mut long = [0xff; 32];
        (long[0], long[31]) = (0xee, 0x7f);
        let mut neutral = [0; 32];
        neutral[0] = 1;
        for weak in [neutral, two, long, [2; 32]] {
            let public = PublicKey::from_bytes(weak);
            assert_eq!(
                verify(&public, b"x", &proof),
                Err(VrfError::Key),
                "{}",
                hex::encode(weak)
            );
        }
        let mut large = proof;
        large[48..].copy_from_slice(&[0xff; 32]);
        assert_eq!(verify(&key.public_key(), b"x", &large), Err(VrfError::Malformed));
    }
}
