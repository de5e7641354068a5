//! Every limit of the protocol, each with its reason. Over a limit nothing is done, and the error names the limit.

/// A record's key: at least one byte, so that "no key" and "empty key" cannot be confused.
pub const MIN_KEY_BYTES: usize = 1;
/// A record's key: small enough that an index over millions of them stays in memory's reach.
pub const MAX_KEY_BYTES: usize = 1_024;
/// A record's value or a message: documents fit, and eight of them fill a block.
pub const MAX_VALUE_BYTES: usize = 1_048_576;
/// A transfer's memo: an invoice number or a sentence.
pub const MAX_MEMO_BYTES: usize = 256;
/// An encoded transaction: the largest value, the largest key and the fixed fields, with room to grow (1.1 MiB).
pub const MAX_TRANSACTION_BYTES: usize = 1_153_434;
/// An encoded block: one is sent in under a second on a 100 Mbit/s line.
pub const MAX_BLOCK_BYTES: usize = 8_388_608;
/// Transactions in a block: two cores check this many signatures in well under a second.
pub const MAX_BLOCK_TRANSACTIONS: usize = 20_000;
/// A header's encoded bytes: the largest proof (stake: key, slot, VRF proof, signature) and the fixed fields.
pub const MAX_HEADER_BYTES: usize = 640;
/// All transactions that wait in a node, together.
pub const MAX_MEMPOOL_BYTES: usize = 268_435_456;
/// Transactions of one sender that wait in a node, so that one cannot crowd out all others.
pub const MAX_MEMPOOL_PER_SENDER: usize = 100_000;
/// The body of an HTTP request: one full block with room for its JSON frame.
pub const MAX_REQUEST_BYTES: usize = 16_777_216;
/// Peers asked at once; drawn at random from more.
pub const MAX_PEERS_ASKED: usize = 10;
/// The length of a worker's or chain's name, of `a-z0-9-`.
pub const MAX_NAME_BYTES: usize = 64;
/// Workers of one chain: the acknowledgements of a majority fit in one request.
pub const MAX_CHAIN_WORKERS: usize = 256;
/// Chains of one coordinator: it looks at each of them every second.
pub const MAX_CHAINS: usize = 1_000;
/// Chains of one node: each takes some memory and files even where it is quiet.
pub const MAX_NODE_CHAINS: usize = 256;
/// Chains that a worker says it lives on in one request, so that neither it nor the answer is long.
pub const MAX_HEARTBEATS: usize = 64;
/// An encoded chain spec: holds the first balances of some ten thousand wallets.
pub const MAX_SPEC_BYTES: usize = 1_048_576;
/// First balances, stakes or role grants in a chain spec, each.
pub const MAX_SPEC_ENTRIES: usize = 10_000;
/// A signed checkpoint with its cosignatures: 256 of them at about 200 bytes, and the text.
pub const MAX_CHECKPOINT_BYTES: usize = 65_536;
/// Headers in one answer between peers.
pub const MAX_HEADERS_PER_MESSAGE: usize = 2_000;
/// A message between peers: the largest block and its frame.
pub const MAX_PEER_MESSAGE_BYTES: usize = 8_650_752;
/// How far ahead of this machine's clock a block may be stamped.
pub const MAX_FUTURE_MS: u64 = 120_000;
/// A block is later than the median of this many before it (Bitcoin's median time past).
pub const MEDIAN_TIME_BLOCKS: usize = 11;

/// A name that breaks the rule: 1 to 64 characters of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name {name:?} is not 1 to {MAX_NAME_BYTES} characters of a-z, 0-9 and -")]
pub struct NameError {
    name: String,
}

/// Checks a worker's or chain's name.
///
/// # Errors
/// Where it is empty, longer than [`MAX_NAME_BYTES`], or has another character than `a-z0-9-`.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err(NameError {
            name: name.chars().take(80).collect(),
        });
    }
    Ok(())
}
