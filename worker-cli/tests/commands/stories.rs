//! What goes on while somebody looks at a page: blocks that compete, a search that takes long, a session that ends, a worker
//! that falls silent; and all of it by keyboard alone.

#![expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]

use super::browser::{Browser, ENTER, WIDE};
use super::chain::{json, wait};
use super::faults::signal;
use super::node::{Coordinator, Registered};
use super::pages::{page, put, story};
use std::path::Path;

fn word(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("api.cookie")).unwrap()
}

async fn signed_in(url: &str, dir: &Path) -> Browser {
    let browser = Browser::start(WIDE).await;
    browser.go(&format!("{url}/login")).await;
    browser
        .fill("input[name=word]", &format!("{}\n", word(dir)))
        .await;
    browser.shows("h1", "Wallet").await;
    browser
}

#[test]
fn blocks_that_compete_are_drawn_and_each_has_a_page() {
    let (server, one, other) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let coordinator = Coordinator::on_demand(server.path());
    let (a, b) = (one.path(), other.path());
    let _registered = (Registered(a), Registered(b));
    json(a, &["register", "--name", "ana", "--server", &coordinator.url]);
    json(b, &["register", "--name", "ben", "--server", &coordinator.url]);
    wait(a, &["peers"], |found| found["count"] == 1);
    // Who has joined counts with the next checkpoint.
    json(a, &["mine_block"]);
    wait(b, &["status"], |status| status["final_size"] == 2);
    let view = format!("{}/v1/chains/main/view", coordinator.url);
    story(async {
        // Installed by whichever test comes first.
        let _installed = rustls::crypto::ring::default_provider().install_default().is_ok();
        loop {
            let answer = reqwest::get(&view).await.unwrap();
            if answer.json::<serde_json::Value>().await.unwrap()["quorum"] == 2 {
                break;
            }
        }
    });
    // Each mines while the other is away, so that neither is a majority.
    signal(b, "KILL");
    put(a, "of", "ana");
    let of_ana = json(a, &["mine_block"])["hash"].as_str().unwrap().to_owned();
    signal(a, "KILL");
    put(b, "of", "ben");
    let of_ben = json(b, &["mine_block"])["hash"].as_str().unwrap().to_owned();
    assert_ne!(of_ana, of_ben);
    json(a, &["status"]);
    // They agree on one of the two.
    let chain = wait(b, &["get_chain"], |chain| chain["blocks"][2]["status"] == "final");
    let stands = chain["blocks"][2]["hash"].as_str().unwrap().to_owned();
    // Whoever made the other one has seen both.
    let (lost, dir) = if stands == of_ana {
        (&of_ben, b)
    } else {
        (&of_ana, a)
    };
    wait(dir, &["get_chain"], |chain| {
        chain["blocks"][2]["status"] == "final"
    });
    story(async {
        let url = page(dir);
        let browser = Browser::start(WIDE).await;
        browser.go(&format!("{url}/forks")).await;
        let table = browser.shows("#forks table", "orphaned").await;
        assert!(
            table.contains("final") && table.contains("ana") && table.contains("ben"),
            "{table}"
        );
        assert_eq!(
            browser
                .script("return document.querySelectorAll('svg.forks rect.orphaned').length")
                .await,
            1
        );
        assert_eq!(
            browser
                .script("return document.querySelectorAll('svg.forks path.edge').length")
                .await,
            3,
            "both follow the same block, which follows the first"
        );
        browser.picture("forks-competing").await;
        browser.click(&format!("a[href='blocks/{lost}']")).await;
        browser
            .shows("h1", &format!("Block {}, for height 2", &lost[..12]))
            .await;
        browser
            .shows("#block", "orphaned: another block has its place")
            .await;
        browser
            .shows("main", "they wait again, or are in another block")
            .await;
        browser.fill("input[name=q]", &format!("{lost}\n")).await;
        browser.shows("h1", &lost[..12]).await;
        browser.click("#block dl a[href='blocks/2']").await;
        browser.shows("h1", "Block 2").await;
        browser.end().await;
    });
}

#[test]
fn a_search_that_takes_long_says_how_far_it_is_and_ends_with_its_page() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::with(server.path(), &["--difficulty", "60", "--block-interval-ms", "0"]);
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--name", "ana", "--server", &coordinator.url]);
    let url = page(dir);
    story(async {
        let browser = signed_in(&url, dir).await;
        browser.click("#mine button").await;
        let said = browser.shows("#mine output", "are needed on average").await;
        assert!(
            said.contains("Block 1: ") && said.contains("; 1,152,92"),
            "{said}"
        );
        let shown =
            "const bar = document.querySelector('#mine progress'); return bar.hidden ? -1 : bar.value";
        let first = browser.script(shown).await.as_f64().unwrap();
        assert!(first > 0.0, "{first}");
        loop {
            let now = browser.script(shown).await.as_f64().unwrap();
            if now > first {
                break;
            }
        }
        browser.picture("wallet-mining").await;
        // Others see it, too.
        wait(dir, &["status"], |status| status["mining"]["height"] == 1);
        browser.go(&format!("{url}/")).await;
        wait(dir, &["status"], |status| status["mining"].is_null());
        browser.end().await;
    });
}

#[test]
fn who_is_not_signed_in_any_more_is_led_back_to_where_he_was() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--name", "ana", "--server", &coordinator.url]);
    let url = page(dir);
    story(async {
        let browser = signed_in(&url, dir).await;
        let address = browser.shows("#address", "bcw1").await;
        browser.go(&format!("{url}/wallet?address={address}")).await;
        // Signed out elsewhere.
        let out = "return fetch('v1/session', { method: 'DELETE' }).then(answer => answer.status)";
        assert_eq!(browser.script(out).await, 200);
        browser.fill("#put input[name=key]", "k").await;
        browser.click("#put button").await;
        browser
            .shows("#put output", "You are not signed in, or not any more.")
            .await;
        browser.click("#put output a").await;
        browser.shows("h1", "Sign in").await;
        browser
            .fill("input[name=word]", &format!("{}\n", word(dir)))
            .await;
        browser.shows("h1", "Wallet worker").await;
        let here = browser.client.current_url().await.unwrap().to_string();
        assert!(here.ends_with(&format!("/wallet?address={address}")), "{here}");
        // A way back that leads elsewhere is none.
        browser.go(&format!("{url}/wallet")).await;
        assert_eq!(browser.script(out).await, 200);
        browser.go(&format!("{url}/login?then=//evil.example/")).await;
        browser
            .fill("input[name=word]", &format!("{}\n", word(dir)))
            .await;
        browser.shows("h1", "Wallet worker").await;
        // Nothing that is typed goes into an address, whatever becomes of the script.
        let forms =
            "return [...document.querySelectorAll('form[data-post]')].every(form => form.method === 'post')";
        assert_eq!(browser.script(forms).await, true);
        browser.end().await;
    });
}

#[test]
fn the_wallet_is_used_by_keyboard_alone_and_keeps_what_a_person_is_at() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--name", "ana", "--server", &coordinator.url]);
    let url = page(dir);
    story(async {
        let browser = Browser::start(WIDE).await;
        browser.go(&url).await;
        browser.tab_to("a.skip").await;
        browser.keys(ENTER).await;
        assert_eq!(
            browser.script("return document.activeElement.id").await,
            "content"
        );
        browser.go(&url).await;
        browser
            .tab_to("nav a[href^='/login'], nav a[href*='login?then']")
            .await;
        browser.keys(ENTER).await;
        browser.shows("h1", "Sign in").await;
        browser.tab_to("input[name=word]").await;
        browser.keys(&word(dir)).await;
        browser.keys(ENTER).await;
        // Back to where one was, and on to the wallets.
        browser.shows("nav", "Sign out").await;
        browser.tab_to("nav a[href='wallet']").await;
        browser.keys(ENTER).await;
        browser.shows("h1", "Wallet worker").await;
        browser.tab_to("#put input[name=key]").await;
        browser.keys("by keyboard").await;
        browser.tab_to("#put textarea").await;
        browser.keys("a value").await;
        browser.tab_to("#put button").await;
        browser.keys(ENTER).await;
        browser.shows("#put output", "Waits for a block").await;
        browser.shows("#open", "Open transactions: 1").await;
        // The focus stays on a link of a part that is shown anew beside it.
        browser.tab_to("#open a[href^='transactions/']").await;
        put(dir, "another", "value");
        browser.shows("#open", "Open transactions: 2").await;
        let focused = "return document.activeElement.getAttribute('href')";
        assert!(
            browser
                .script(focused)
                .await
                .as_str()
                .unwrap()
                .starts_with("transactions/")
        );
        browser.keys(ENTER).await;
        browser.shows("h1", "Transaction ").await;
        browser.shows("#state", "by keyboard").await;
        browser.end().await;
    });
}

#[test]
fn amounts_are_typed_as_they_are_shown_and_a_wallet_is_loaded_from_a_file() {
    let (server, home, away) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--name", "ana", "--server", &coordinator.url]);
    let words = [
        "--proof",
        "authority",
        "--interval",
        "0",
        "--decimals",
        "2",
        "--reward",
        "125",
    ];
    json(
        dir,
        &[&["chain", "create", "--name", "coins"], &words[..]].concat(),
    );
    // A wallet of another machine, in a file under a passphrase.
    let secret = away.path().join("secret");
    std::fs::write(&secret, "a passphrase\n").unwrap();
    let file = away.path().join("shop.json");
    let made = json(away.path(), &["wallet", "create", "--label", "shop"]);
    let shop = made["address"].as_str().unwrap().to_owned();
    let secret = secret.to_str().unwrap();
    json(
        away.path(),
        &[
            "wallet",
            "export",
            "shop",
            "--passphrase-file",
            secret,
            "--out",
            file.to_str().unwrap(),
        ],
    );
    let url = page(dir);
    story(async {
        let browser = signed_in(&url, dir).await;
        // The other chain, by the switch that every page has.
        browser.click("nav.chains a[href='/chains/coins/']").await;
        browser.shows("h1", "Chain coins").await;
        browser.click_link("Wallets").await;
        browser.click("#mine button").await;
        browser.shows("#balance", "Balance\n1.25").await;
        browser
            .fill("#load input[type=file]", file.to_str().unwrap())
            .await;
        browser.click("#load button").await;
        browser.shows("h1", "Wallet shop").await;
        browser.shows("#balance", &shop).await;
        browser.click_link("worker").await;
        browser.fill("#send input[name=to]", &shop).await;
        browser.fill("#send input[name=amount]", "0.255").await;
        browser.click("#send button").await;
        browser
            .shows("#send output", "with at most 2 digits after the point")
            .await;
        browser
            .script("document.querySelector('#send input[name=amount]').value = ''")
            .await;
        browser.fill("#send input[name=amount]", "0.25").await;
        browser.click("#send button").await;
        browser.shows("#open", "0.25 to bcw1").await;
        browser.click("#mine button").await;
        browser.shows("#open", "Open transactions: 0").await;
        browser.click_link("shop").await;
        browser.shows("#balance", "Balance\n0.25").await;
        browser.picture("wallet-of-a-file").await;
        // What is no such file changes nothing.
        browser.fill("#load input[type=file]", secret).await;
        browser.click("#load button").await;
        browser
            .shows("#load output", "is no wallet whose key is encrypted")
            .await;
        browser.end().await;
    });
    assert_eq!(
        json(dir, &["balance", &shop, "--chain", "coins"])["confirmed"],
        25
    );
}

/// A worker that dies while its operator looks: the page says so by itself, says what waits for it, and takes it out.
#[test]
fn a_silent_worker_is_seen_waited_for_taken_out_and_banned() {
    let (server, one, other) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let flags = [
        "--difficulty",
        "4",
        "--block-interval-ms",
        "0",
        "--heartbeat-ms",
        "200",
        "--lease-ms",
        "3000",
    ];
    let coordinator = Coordinator::with(server.path(), &flags);
    let (a, b) = (one.path(), other.path());
    let registered = Registered(a);
    json(a, &["register", "--name", "ana", "--server", &coordinator.url]);
    json(b, &["register", "--name", "ben", "--server", &coordinator.url]);
    wait(a, &["peers"], |found| found["count"] == 1);
    json(a, &["mine_block"]);
    wait(b, &["status"], |status| status["final_size"] == 2);
    let url = coordinator.url.clone();
    story(async {
        let browser = Browser::start(WIDE).await;
        browser.go(&format!("{url}/login")).await;
        browser
            .fill("input[name=word]", &format!("{}\n", word(server.path())))
            .await;
        browser.shows("#network", "2 of the 2 workers that count").await;
        browser.click("#network summary").await;
        browser.shows("#network details", "Term Leader").await;
        browser.script("window.stays = true").await;
        signal(b, "KILL");
        let shown = browser.shows("#network", "silent since 20").await;
        assert!(shown.contains("alive"), "{shown}");
        put(a, "k", "v");
        json(a, &["mine_block"]);
        let waits = browser.shows("#network .notice", "Not final yet:").await;
        assert!(waits.contains("ben (silent for"), "{waits}");
        // What was unfolded stays so, and the page was never loaded again.
        browser.shows("#network details", "Term Leader").await;
        assert_eq!(browser.script("return window.stays").await, true);
        browser.picture("network-silent").await;
        let name = "return document.querySelector('#network button[aria-label^=\"Take ben\"]').getAttribute('aria-label')";
        assert_eq!(browser.script(name).await, "Take ben out of chain main");
        browser.click("#network button[aria-label^='Take ben']").await;
        assert!(
            browser
                .agree()
                .await
                .contains("comes back with its next heartbeat")
        );
        browser.shows("#network", "1 of the 1 workers that count").await;
        browser.shows("#network", "3 blocks, up to block 2").await;
        // It comes back by itself, until it is banned.
        json(b, &["status"]);
        browser
            .shows("#network button[aria-label^='Ban ben']", "Ban")
            .await;
        browser.click("#network button[aria-label^='Ban ben']").await;
        assert!(browser.agree().await.contains("until it is let back in"));
        browser.shows("#network", "Banned workers").await;
        let refused = super::run(b, &["register", "--server", &url]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("banned"), "{said}");
        browser.picture("network-banned").await;
        browser
            .click("#network button[aria-label='Let ben back in']")
            .await;
        browser.shows("#network", "ben").await;
        json(b, &["register", "--server", &url]);
        wait(b, &["status"], |status| status["height"] == 2);
        browser.shows("#network", "joining: it does not count yet").await;
        json(a, &["mine_block"]);
        browser.shows("#network", "2 of the 2 workers that count").await;
        browser.end().await;
    });
    drop((Registered(b), registered));
}
