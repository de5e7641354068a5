//! How QUIC behaves between workers: what is noticed when, and how much memory a peer can make this node hold.

use iroh::endpoint::{QuicTransportConfig, VarInt};
use std::time::Duration;

/// A peer that says nothing for so long is gone.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// How often a silent connection shows that it lives: three may be lost.
const KEEP_ALIVE: Duration = Duration::from_millis(1_250);
/// What may be on its way on one stream. The QUIC library ends a connection whose stream has over 1,024 gaps: full packets
/// (1,200 bytes or more) cannot leave so many in this window, whatever is lost. It keeps a 1 Gbit/s line of 8 ms full.
const WINDOW_BYTES: u32 = 1_048_576;

pub(super) fn config() -> QuicTransportConfig {
    let builder = QuicTransportConfig::builder()
        .keep_alive_interval(KEEP_ALIVE)
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        // Both streams' windows: bulk that nobody reads leaves room for small messages.
        .receive_window(VarInt::from_u32(WINDOW_BYTES * 2))
        .send_window(u64::from(WINDOW_BYTES) * 2)
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    match IDLE.try_into() {
        Ok(idle) => builder.max_idle_timeout(Some(idle)).build(),
        Err(_) => builder.build(),
    }
}
