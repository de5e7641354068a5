//! A mixed load with a random fault every few seconds, for `SOAK_SECONDS`: nothing is lost, memory stays flat.

use crate::cluster::Cluster;
use crate::load::Load;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a test takes part in `make test`.
const SHORT: Duration = Duration::from_secs(20);
/// From which length on memory is judged: before it grows to what it needs.
const LONG: Duration = Duration::from_secs(240);
/// What a node's own memory may be more in the last quarter than in the second, and a half.
const SLACK_MIB: u64 = 32;
/// How long commits may be held up when everything is mended.
const SETTLED: Duration = Duration::from_secs(90);

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillLeader,
    KillFollower,
    KillServer,
    CutOff,
    CutOneWay,
    Delay,
    Loss,
}

const FAULTS: [Fault; 7] = [
    Fault::KillLeader,
    Fault::KillFollower,
    Fault::KillServer,
    Fault::CutOff,
    Fault::CutOneWay,
    Fault::Delay,
    Fault::Loss,
];

/// What was seen.
#[derive(Default)]
struct Seen {
    faults: BTreeMap<Fault, u32>,
    longest_pause: Duration,
    /// Own memory of each worker's node in MiB, over time.
    memory: BTreeMap<usize, Vec<u64>>,
}

/// How long to go on.
pub(crate) fn length() -> Duration {
    let told = std::env::var("SOAK_SECONDS").ok();
    told.map_or(SHORT, |seconds| Duration::from_secs(seconds.parse().unwrap()))
}

pub(crate) fn run(cluster: &mut Cluster) {
    let load = Load::start(cluster);
    let (began, length) = (Instant::now(), length());
    let seed = rand::rng().random();
    println!("soak: {} s, faults by seed {seed}", length.as_secs());
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen = Seen::default();
    let (mut committed, mut since) = (cluster.committed(), Instant::now());
    while began.elapsed() < length {
        let fault = FAULTS[random.random_range(0..FAULTS.len())];
        *seen.faults.entry(fault).or_default() += 1;
        let mend = begin(cluster, fault, &mut random);
        let fault_ends = Instant::now() + Duration::from_millis(random.random_range(500..8_000));
        watch(cluster, fault_ends, &mut seen, (&mut committed, &mut since));
        mend(cluster);
        let next = Instant::now() + Duration::from_millis(random.random_range(1_000..4_000));
        watch(cluster, next, &mut seen, (&mut committed, &mut since));
    }
    cluster.await_commits(2, SETTLED);
    let accepted = load.stop();
    let blocks = cluster.committed();
    cluster.check_promises(accepted.clone(), SETTLED);
    summary(&seen, (accepted.len(), blocks, began.elapsed()));
    if length >= LONG {
        for (worker, memory) in &seen.memory {
            let quarter =
                |number: usize| median(&memory[memory.len() * number / 4..memory.len() * (number + 1) / 4]);
            let (early, late) = (quarter(1), quarter(3));
            assert!(
                late <= early + early / 2 + SLACK_MIB,
                "worker {worker}'s memory grows: {early} MiB, then {late} MiB"
            );
        }
    }
}

/// Begins a fault; what mends it.
fn begin(cluster: &mut Cluster, fault: Fault, random: &mut StdRng) -> Box<dyn FnOnce(&mut Cluster)> {
    let workers = cluster.places.workers();
    let worker = random.random_range(1..=workers);
    let leader = cluster.leader();
    let others = |than: usize| -> Vec<usize> { (0..=workers).filter(|node| *node != than).collect() };
    match fault {
        Fault::KillLeader | Fault::KillFollower => {
            let is_wanted = |worker: &usize| (*worker == leader) == (fault == Fault::KillLeader);
            let killed = (1..=workers).find(is_wanted).unwrap();
            cluster.kill(killed);
            Box::new(move |cluster| cluster.run(killed))
        }
        Fault::KillServer => {
            cluster.kill_server(0);
            Box::new(|cluster| cluster.run_server(0))
        }
        Fault::CutOff => {
            cluster.switch().cut(&[worker], &others(worker));
            cluster.switch().cut(&others(worker), &[worker]);
            Box::new(|cluster| cluster.switch().mend())
        }
        Fault::CutOneWay => {
            cluster.switch().cut(&[worker], &others(worker));
            Box::new(|cluster| cluster.switch().mend())
        }
        Fault::Delay => {
            let longest = Duration::from_millis(random.random_range(20..400));
            cluster.switch().delay(longest / 4..longest);
            Box::new(|cluster| cluster.switch().mend())
        }
        Fault::Loss => {
            cluster.switch().lose(random.random_range(10..250));
            Box::new(|cluster| cluster.switch().mend())
        }
    }
}

/// Looks at the promises and the memory until then.
fn watch(
    cluster: &mut Cluster,
    until: Instant,
    seen: &mut Seen,
    (committed, since): (&mut u64, &mut Instant),
) {
    while Instant::now() < until {
        let now = cluster.committed();
        if now > *committed {
            (*committed, *since) = (now, Instant::now());
        }
        seen.longest_pause = seen.longest_pause.max(since.elapsed());
        for (worker, mib) in cluster.memory() {
            seen.memory.entry(worker).or_default().push(mib);
        }
        // Other processes change by themselves.
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn median(numbers: &[u64]) -> u64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn summary(seen: &Seen, (accepted, blocks, took): (usize, u64, Duration)) {
    println!("\n| soak | |\n| --- | --- |");
    println!("| length | {} s |", took.as_secs());
    println!("| transactions accepted, all final on every worker, once | {accepted} |");
    println!("| blocks committed | {blocks} |");
    for (fault, times) in &seen.faults {
        println!("| {fault:?} | {times} times |");
    }
    println!(
        "| longest time without a new committed block | {:.1?} |",
        seen.longest_pause
    );
    for (worker, memory) in &seen.memory {
        let (first, last) = (
            median(&memory[..memory.len() / 4]),
            median(&memory[memory.len() * 3 / 4..]),
        );
        let most = memory.iter().max().copied().unwrap_or(0);
        println!(
            "| own memory of worker {worker}: first quarter, last quarter, most | {first}, {last}, {most} MiB |"
        );
    }
}
