//! How fast the largest blocks go from one node to another.

use super::Node;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_blocks_go_fast() {
    const COUNT: usize = 40;
    let (a, mut b) = Node::pair().await;
    let message = super::messages::block(8_000_000);
    let bytes = block_chain_common::codec::encode(&message).len();
    let sender = tokio::spawn(async move {
        let mut sent = 0;
        while sent < COUNT {
            if a.network.send(&b.key, &message) {
                sent += 1;
            } else {
                tokio::task::yield_now().await;
            }
        }
        a
    });
    let began = Instant::now();
    let peer = super::secret(super::seeds().0).public_key();
    for _ in 0..COUNT {
        b.expect_message(peer).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let total = f64::from(u32::try_from(COUNT * bytes).unwrap()) / 1e6;
    // A debug line, not a bound: the machine may be busy.
    tracing::info!(rate = total / seconds, "MB/s");
    eprintln!("{total:.0} MB in {seconds:.2} s: {:.0} MB/s", total / seconds);
    drop(sender.await.unwrap());
}
