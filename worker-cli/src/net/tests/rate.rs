//! How fast the largest blocks go from one node to another.

use super::Node;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_blocks_go_through_whatever_is_lost() {
    const COUNT: usize = 60;
    const AHEAD: usize = 6;
    let (a, mut b) = Node::pair().await;
    let message = super::messages::block(8_000_000);
    let bytes = block_chain_common::codec::encode(&message).len();
    let began = Instant::now();
    for number in 0..COUNT + AHEAD {
        if number < COUNT {
            assert!(a.network.send(&b.key, &message));
        }
        if number >= AHEAD {
            b.expect_message(a.key).await;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let total = f64::from(u32::try_from(COUNT * bytes).unwrap()) / 1e6;
    // No bound: the machine may be busy. Shown with `--nocapture`.
    println!("{total:.0} MB in {seconds:.2} s: {:.0} MB/s", total / seconds);
}
