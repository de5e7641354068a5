//! The real programs, each in a network namespace of its own, under a steady load, while the network between them and the
//! programs themselves fail: what was promised is checked from outside, with the commands that users have.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that meets what it does not expect has failed, and tells what it measured"
)]

#[path = "network_faults/cluster.rs"]
mod cluster;
#[path = "network_faults/load.rs"]
mod load;
#[path = "network_faults/namespace.rs"]
mod namespace;
#[path = "support/postgres.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod postgres;
#[path = "network_faults/soak.rs"]
mod soak;
#[path = "network_faults/switch.rs"]
mod switch;

use cluster::Cluster;
use load::Load;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// From the loss of the leader to the next committed block, with the default lease.
const FAILOVER: Duration = Duration::from_secs(10);
/// From the loss of one of several servers to the next committed block: the workers go on with the next, and make a block
/// a second.
const NEXT_SERVER: Duration = Duration::from_secs(3);
/// What a fault that is mended may hold up.
const SOON: Duration = Duration::from_secs(30);

/// A way that has opened is tried once a minute.
const OTHER_WAY: Duration = Duration::from_secs(180);

/// One network at a time: times are measured.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn kills_of_leader_follower_and_server_lose_nothing() {
    let _alone = ONE.lock();
    let Some(mut cluster) = Cluster::start(3, "kills_of_leader_follower_and_server_lose_nothing") else {
        return;
    };
    let load = Load::start(&cluster);
    cluster.await_commits(2, SOON);

    let leader = cluster.leader();
    let before = cluster.committed();
    let killed = Instant::now();
    cluster.kill(leader);
    cluster.await_committed(before + 1, SOON);
    let took = killed.elapsed();
    println!("from a killed leader to the next committed block: {took:.1?} (wanted: under {FAILOVER:?})");
    assert!(took < FAILOVER, "{took:?}");
    cluster.run(leader);
    cluster.await_commits(2, SOON);

    let follower = (1..=3).find(|worker| *worker != cluster.leader()).unwrap();
    cluster.kill(follower);
    cluster.await_commits(2, SOON);
    cluster.run(follower);

    cluster.kill_server(0);
    // Workers stay readable and writable.
    load.await_accepted(3, SOON);
    cluster.run_server(0);
    cluster.await_commits(2, SOON);
    cluster.check_promises(load.stop(), SOON * 2);
}

#[test]
fn workers_that_reach_the_coordinator_alone_meet_at_its_relay() {
    let _alone = ONE.lock();
    let Some(mut cluster) = Cluster::apart(3, "workers_that_reach_the_coordinator_alone_meet_at_its_relay")
    else {
        return;
    };
    let paths = |cluster: &Cluster| -> Option<Vec<bool>> {
        let mut relayed = Vec::new();
        for worker in 1..=3 {
            let answer = cluster.places.ask(worker, &["peers"])?;
            for peer in answer["peers"].as_array()? {
                relayed.push(peer["connected"] == true && peer["relayed"] == true);
            }
        }
        (relayed.len() == 6).then_some(relayed)
    };
    let load = Load::start(&cluster);
    cluster.await_commits(3, SOON);
    assert_eq!(paths(&cluster), Some(vec![true; 6]));

    // The relay goes with its server, and is there again with it.
    cluster.kill_server(0);
    load.await_accepted(3, SOON);
    cluster.run_server(0);
    cluster.await_commits(3, SOON * 2);

    // Where the way between them opens, they take it: it is tried once a minute.
    cluster.switch().mend();
    cluster.wait(OTHER_WAY, "the workers reach each other directly", |cluster| {
        paths(cluster)?.iter().all(|relayed| !relayed).then_some(())
    });
    cluster.await_commits(2, SOON);
    cluster.check_promises(load.stop(), SOON * 2);
}

#[test]
fn cuts_delays_and_losses_are_outlived() {
    let _alone = ONE.lock();
    let Some(mut cluster) = Cluster::start(3, "cuts_delays_and_losses_are_outlived") else {
        return;
    };
    let load = Load::start(&cluster);
    cluster.await_commits(2, SOON);

    // The leader alone on one side: the others elect another.
    let leader = cluster.leader();
    let others: Vec<usize> = (0..=3).filter(|node| *node != leader).collect();
    let before = cluster.committed();
    let cut = Instant::now();
    cluster.switch().cut(&[leader], &others);
    cluster.switch().cut(&others, &[leader]);
    cluster.await_committed_elsewhere(leader, before + 1, SOON);
    println!(
        "from a leader that is cut off to the next committed block: {:.1?}",
        cut.elapsed()
    );
    cluster.switch().mend();
    cluster.await_commits(2, SOON);

    // One way only: the leader is not heard by its peers, and hears them.
    let leader = cluster.leader();
    let peers: Vec<usize> = (1..=3).filter(|node| *node != leader).collect();
    cluster.switch().cut(&[leader], &peers);
    load.await_accepted(5, SOON);
    cluster.switch().mend();
    cluster.await_commits(2, SOON);

    // A bad line: 50 to 150 ms each way, and every tenth packet lost.
    cluster
        .switch()
        .delay(Duration::from_millis(50)..Duration::from_millis(150));
    cluster.switch().lose(100);
    cluster.await_commits(3, SOON * 2);
    cluster.switch().mend();
    cluster.check_promises(load.stop(), SOON * 2);
}

#[test]
fn of_several_servers_over_one_database_any_may_be_killed() {
    let _alone = ONE.lock();
    let database = postgres::Postgres::start();
    let mut cluster = Cluster::on_loopback(3, 3, Some(database.url()));
    let load = Load::start(&cluster);
    cluster.await_commits(2, SOON);
    for round in 0..2 {
        for server in 0..3 {
            let before = cluster.committed();
            let killed = Instant::now();
            cluster.kill_server(server);
            cluster.await_committed(before + 2, SOON);
            let took = killed.elapsed();
            println!("round {round}: from killed server {server} to the second block after: {took:.1?}");
            assert!(took < NEXT_SERVER + Duration::from_secs(2), "{took:?}");
            cluster.run_server(server);
        }
    }
    // All but the last.
    cluster.kill_server(0);
    cluster.kill_server(1);
    cluster.await_commits(2, SOON);
    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.await_commits(2, SOON);
    cluster.run(leader);
    cluster.check_promises(load.stop(), SOON * 2);
}

#[test]
fn random_faults_for_a_while_lose_nothing() {
    let _alone = ONE.lock();
    if let Some(mut cluster) = Cluster::start(3, "random_faults_for_a_while_lose_nothing") {
        soak::run(&mut cluster);
    }
}

#[test]
fn a_leader_that_is_ended_hands_over_at_once() {
    let _alone = ONE.lock();
    let mut cluster = Cluster::on_loopback(3, 1, None);
    let load = Load::start(&cluster);
    cluster.await_commits(2, SOON);
    let leader = cluster.leader();
    let before = cluster.committed();
    let ended = Instant::now();
    cluster.terminate(leader);
    cluster.await_committed(before + 2, SOON);
    let took = ended.elapsed();
    println!("from a leader that is ended to the second block after: {took:.1?}");
    // Less than the lease of six seconds.
    assert!(took < Duration::from_secs(5), "{took:?}");
    cluster.run(leader);
    cluster.check_promises(load.stop(), SOON * 2);
}

#[test]
fn a_coordinator_restored_from_an_old_copy_is_refused_until_it_has_recovered() {
    let _alone = ONE.lock();
    let mut cluster = Cluster::on_loopback(3, 1, None);
    let load = Load::start(&cluster);
    cluster.await_commits(2, SOON);
    cluster.kill_server(0);
    let database = cluster.database_file();
    let sides = ["", "-wal", "-shm"];
    let beside = |side: &str| std::path::PathBuf::from(format!("{}{side}", database.display()));
    let copy: Vec<Option<Vec<u8>>> = sides
        .iter()
        .map(|side| std::fs::read(beside(side)).ok())
        .collect();
    cluster.run_server(0);
    cluster.await_commits(3, SOON);
    cluster.kill_server(0);
    for (side, kept) in sides.iter().zip(&copy) {
        match kept {
            Some(bytes) => std::fs::write(beside(side), bytes).unwrap(),
            None if beside(side).exists() => std::fs::remove_file(beside(side)).unwrap(),
            None => {}
        }
    }
    cluster.run_server(0);

    // The workers refuse it, and say by how much it is behind.
    cluster.wait(SOON, "the workers name the gap", |cluster| {
        let told = |worker| {
            let status = cluster.status(worker)?;
            let reason = status["waiting"]["reason"].as_str()?.to_owned();
            Some(reason.starts_with("AGR-8: the worker has seen term"))
        };
        (1..=3).all(|worker| told(worker) == Some(true)).then_some(())
    });
    let before = cluster.committed();
    let plan = cluster.wait(SOON, "all have shown what they have", |cluster| {
        let (done, said) = cluster.recover(&[]);
        (done && !said.contains("were not heard")).then_some(said)
    });
    assert!(
        plan.contains("nothing is done yet") && plan.contains("holds a checkpoint of"),
        "{plan}"
    );
    assert_eq!(cluster.committed(), before, "nothing was committed meanwhile");
    let (done, said) = cluster.recover(&["--yes"]);
    println!("{said}");
    assert!(done && said.contains("committed is now"), "{said}");
    cluster.await_commits(2, SOON);
    let (again, said) = cluster.recover(&["--yes"]);
    assert!(
        !again && said.contains("AGR-9: no worker shows anything"),
        "{said}"
    );
    cluster.check_promises(load.stop(), SOON * 2);
}
