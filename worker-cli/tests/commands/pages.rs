//! The pages of a node and of the coordinator, clicked through in a real browser.

#![expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]

use super::browser::{Browser, DARK_PHONE, Look, WIDE};
use super::chain::{json, wait};
use super::node::{Coordinator, Registered};
use std::path::Path;

/// Every look that a page has.
const LOOKS: [(Look, &str); 4] = [
    (DARK_PHONE, "narrow-dark"),
    (
        Look {
            dark: false,
            ..DARK_PHONE
        },
        "narrow-light",
    ),
    (WIDE, "wide-light"),
    (Look { dark: true, ..WIDE }, "wide-dark"),
];

/// Runs a story in a browser, whose steps wait for each other.
pub(super) fn story(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(run);
}

pub(super) fn page(dir: &Path) -> String {
    let about = std::fs::read_to_string(dir.join("node.json")).unwrap();
    let about: serde_json::Value = serde_json::from_str(&about).unwrap();
    about["api"].as_str().unwrap().to_owned()
}

pub(super) fn put(dir: &Path, key: &str, value: &str) -> String {
    let added = json(dir, &["add_transaction", "--key", key, "--value", value]);
    added["transaction_ids"][0].as_str().unwrap().to_owned()
}

#[test]
fn the_explorer_leads_from_a_search_to_a_verified_receipt() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--name", "ana", "--server", &coordinator.url]);
    let id = put(dir, "invoice/<2026>/1", "first");
    for n in 2..20 {
        put(dir, &format!("invoice/{n}"), "{\"paid\":true}");
    }
    let root = json(dir, &["mine_block"])["merkle_root"]
        .as_str()
        .unwrap()
        .to_owned();
    put(dir, "invoice/<2026>/1", "second");
    json(dir, &["mine_block"]);
    wait(dir, &["status"], |status| status["final_size"] == 3);
    story(async {
        let url = page(dir);
        let browser = Browser::start(WIDE).await;
        browser.go(&url).await;
        browser.fill("input[name=q]", "invoice/<2026>/1\n").await;
        browser.shows("h1", "Record invoice/<2026>/1").await;
        let versions = browser.shows("main", "second").await;
        assert!(versions.contains("first"), "{versions}");
        browser.picture("record-wide-light").await;
        browser.click(&format!("a[href='transactions/{id}']")).await;
        browser.shows("#state", "final, in block 1").await;
        browser.click("button[data-get]").await;
        browser
            .shows(
                "#verified",
                "Final: a majority of the chain's members has cosigned it",
            )
            .await;
        browser.picture("transaction-wide-light").await;
        browser.click("a[download]").await;
        let receipt = browser.downloaded(&format!("{}.receipt", &id[..12])).await;
        let verified = json(dir, &["verify", receipt.to_str().unwrap()]);
        assert_eq!(verified["standing"], "final", "{verified}");

        browser.click("#state a[href='blocks/1']").await;
        browser.shows("h1", "Block 1").await;
        let top = browser
            .element(".tree li code")
            .await
            .attr("title")
            .await
            .unwrap();
        assert_eq!(top.unwrap(), root);
        browser.click_link("below it").await;
        browser.click_link("Above it").await;
        browser.shows("#tree + p + ol", "19 transactions from 0").await;
        browser.picture("block-wide-light").await;
        browser.click("dl.facts a[href^='accounts/']").await;
        browser.shows("#account", "reward").await;
        browser.picture("account-wide-light").await;
        browser.fill("input[name=q]", "nothing of this name\n").await;
        browser
            .shows("main", "there is no record, address, transaction or block")
            .await;

        // A block that comes is shown without a new page; what is typed stays.
        browser.go(&url).await;
        browser.fill("input[name=q]", "typed").await;
        browser.script("window.stays = true").await;
        put(dir, "later", "value");
        browser.shows("#now", "Waiting for a block: 1").await;
        json(dir, &["mine_block"]);
        browser.shows("#now", "block 3").await;
        assert_eq!(browser.script("return window.stays").await, true);
        let typed = browser
            .script("return document.querySelector('input[name=q]').value")
            .await;
        assert_eq!(typed, "typed");
        // By keyboard alone: the first stop leads to the content.
        browser.go(&url).await;
        let skip = browser
            .script("return document.querySelector('a').textContent")
            .await;
        assert_eq!(skip, "To the content");
        browser.end().await;
    });
}

#[test]
fn a_wallet_is_made_and_used_in_the_browser() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let coordinator = Coordinator::on_demand(server.path());
    let dir = home.path();
    let _registered = Registered(dir);
    json(dir, &["register", "--name", "ana", "--server", &coordinator.url]);
    let url = page(dir);
    let word = std::fs::read_to_string(dir.join("api.cookie")).unwrap();
    story(async {
        let browser = Browser::start(WIDE).await;
        browser.go(&format!("{url}/wallet")).await;
        browser
            .shows("main", "Wallets are shown to who is signed in")
            .await;
        browser.click_link("Sign in").await;
        browser.fill("input[name=word]", "wrong\n").await;
        browser.shows("output", "cookie is missing or wrong").await;
        browser
            .script("document.querySelector('input[name=word]').value = ''")
            .await;
        browser.picture("login-wide-light").await;
        browser.fill("input[name=word]", &format!("{word}\n")).await;
        browser.shows("h1", "Wallet worker").await;

        // Mining pays the worker; the page counts it without a reload.
        browser.click("#mine button").await;
        browser.shows("#mine output", "Found in").await;
        browser.click("#mine button").await;
        browser.shows("#balance", "Balance\n2").await;
        let (label, passphrase) = ("savings <b>", "a passphrase");
        browser.fill("#create input[name=label]", label).await;
        browser.fill("#create input[name=passphrase]", passphrase).await;
        browser.fill("#create [data-again]", "a passphrasr").await;
        browser.click("#create button").await;
        browser
            .shows("#create output", "the two passphrases differ")
            .await;
        browser
            .script("document.querySelector('#create [data-again]').value = ''")
            .await;
        browser.fill("#create [data-again]", passphrase).await;
        browser.click("#create button").await;
        browser.shows("h1", "Wallet savings <b>").await;
        let savings = browser.shows("#address", "bcw1").await;
        browser.picture("wallet-wide-light").await;
        let here = browser.client.current_url().await.unwrap().to_string();
        assert!(!here.contains(passphrase) && !here.contains(&word), "{here}");

        // From the worker's wallet to it; more than there is is refused and says what there is.
        browser.click_link("worker").await;
        browser.shows("h1", "Wallet worker").await;
        browser.fill("#send input[name=to]", &savings).await;
        browser.fill("#send input[name=amount]", "3").await;
        browser.click("#send button").await;
        browser.shows("#send output", "2").await;
        browser
            .script("document.querySelector('#send input[name=amount]').value = '1.5'")
            .await;
        browser.click("#send button").await;
        browser.shows("#send output", "is not a whole number").await;
        browser
            .script("document.querySelector('#send input[name=amount]').value = '1'")
            .await;
        browser.click("#send button").await;
        browser.shows("#send output", "Waits for a block").await;
        browser.shows("#open", "Open transactions: 1").await;
        browser.fill("#put input[name=key]", "a key").await;
        browser.fill("#put textarea", "a value").await;
        browser.click("#put button").await;
        browser.shows("#put output", "Waits for a block").await;
        browser.fill("#message textarea", "a message").await;
        browser.click("#message button").await;
        browser.shows("#open", "Open transactions: 3").await;
        browser.click("#mine button").await;
        browser.shows("#open", "Open transactions: 0").await;

        // The other wallet has it, and asks for its passphrase.
        browser.click_link(label).await;
        browser.shows("#balance", "Balance\n1").await;
        let worker = json(dir, &["wallet", "list"])["wallets"][0]["address"]
            .as_str()
            .unwrap()
            .to_owned();
        browser.fill("#send input[name=to]", &worker).await;
        browser.fill("#send input[name=amount]", "1").await;
        browser.fill("#send input[name=passphrase]", "another").await;
        browser.click("#send button").await;
        browser
            .shows("#send output", "the passphrase does not open the key")
            .await;
        browser
            .script("document.querySelector('#send input[name=passphrase]').value = ''")
            .await;
        browser.fill("#send input[name=passphrase]", passphrase).await;
        browser.click("#send button").await;
        browser.shows("#send output", "Waits for a block").await;
        browser.click("nav button.link").await;
        browser
            .shows("main", "Wallets are shown to who is signed in")
            .await;
        browser.end().await;
    });
}

#[test]
fn every_page_fits_a_telephone_light_and_dark() {
    let (server, home, other) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let coordinator = Coordinator::on_demand(server.path());
    let (dir, ben) = (home.path(), other.path());
    let _registered = (Registered(dir), Registered(ben));
    json(dir, &["register", "--name", "ana", "--server", &coordinator.url]);
    json(ben, &["register", "--name", "ben", "--server", &coordinator.url]);
    json(
        dir,
        &["chain", "create", "--name", "audit", "--proof", "authority"],
    );
    let mut id = String::new();
    for n in 0..5 {
        id = put(
            dir,
            &format!("a/rather/long/key/of/number/{n}"),
            &"a long value ".repeat(30),
        );
        json(dir, &["mine_block"]);
    }
    let address = json(dir, &["balance"])["address"].as_str().unwrap().to_owned();
    let word = std::fs::read_to_string(dir.join("api.cookie")).unwrap();
    let paths = [
        ("home", String::new()),
        ("block", "blocks/5".to_owned()),
        ("transaction", format!("transactions/{id}")),
        ("record", "records?key=a/rather/long/key/of/number/4".to_owned()),
        ("account", format!("accounts/{address}")),
        ("forks", "forks".to_owned()),
        ("node", "node".to_owned()),
        ("login", "login".to_owned()),
        ("wallet", "wallet".to_owned()),
        ("missing", "find?q=missing".to_owned()),
        ("audit", "chains/audit/".to_owned()),
    ];
    let url = page(dir);
    story(async {
        for (look, name) in LOOKS {
            let browser = Browser::start(look).await;
            for (what, path) in &paths {
                browser.go(&format!("{url}/{path}")).await;
                browser.shows("main", "").await;
                browser.fits(what).await;
                browser.picture(&format!("{what}-{name}")).await;
                if *what == "login" {
                    browser.fill("input[name=word]", &format!("{word}\n")).await;
                    browser.shows("h1", "Wallet").await;
                }
            }
            let ground = browser
                .script("return getComputedStyle(document.body).backgroundColor")
                .await;
            assert_eq!(ground == "rgb(255, 255, 255)", !look.dark, "{ground}");
            browser.end().await;
        }
    });
}

/// What the operator does on the coordinator's pages; the server runs in this process.
#[test]
fn the_operator_lets_workers_in_and_makes_and_forks_chains() {
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let words = [
        "--difficulty",
        "4",
        "--block-interval-ms",
        "0",
        "--join-token",
        "the first token",
    ];
    let coordinator = Coordinator::with(server.path(), &words);
    let dir = home.path();
    let url = coordinator.url.clone();
    let word = std::fs::read_to_string(server.path().join("api.cookie")).unwrap();
    story(async {
        let browser = Browser::start(WIDE).await;
        browser.go(&url).await;
        browser.shows("main", "No worker yet").await;
        browser.click_link("Tokens").await;
        browser.shows("main", "Tokens are for the operator").await;
        browser.go(&format!("{url}/login")).await;
        browser.fill("input[name=word]", "wrong\n").await;
        browser.shows("output", "the operator's word is wrong").await;
        browser
            .script("document.querySelector('input[name=word]').value = ''")
            .await;
        browser.fill("input[name=word]", &format!("{word}\n")).await;
        browser.shows("nav", "Sign out").await;
        browser.click_link("Tokens").await;
        browser.fill("#create input[name=label]", "for <ana>").await;
        browser.click("#create button").await;
        let made = browser.shows("#create output", "register --token ").await;
        let token = made.rsplit(' ').next().unwrap().to_owned();
        browser.go(&format!("{url}/tokens")).await;
        browser.shows("#tokens", "for <ana>").await;
        browser.picture("tokens-wide-light").await;

        // A worker comes in by it, and once alone.
        let registered = Registered(dir);
        let words = ["register", "--name", "ana", "--server", &url, "--token"];
        json(dir, &[&words[..], &[&token]].concat());
        let other = tempfile::tempdir().unwrap();
        let refused = super::run(other.path(), &["register", "--server", &url, "--token", &token]);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("the join token is used up"));
        browser.go(&format!("{url}/tokens")).await;
        browser.shows("#tokens", "used up").await;
        browser.fill("#create input[name=label]", "to revoke").await;
        browser.click("#create button").await;
        browser.shows("#create output", "register --token ").await;
        browser.go(&format!("{url}/tokens")).await;
        browser.click("#tokens button").await;
        assert!(browser.agree().await.contains("to revoke"));
        browser.shows("#tokens", "revoked").await;

        // The network shows it, with what it mines, and why what is not final is not.
        browser.click_link("Network").await;
        browser.shows("#network", "ana").await;
        put(dir, "k", "v");
        json(dir, &["mine_block"]);
        browser.shows("#network", "2 blocks, up to block 1").await;
        let shown = browser.shows("#network", "alive").await;
        assert!(
            shown.contains("leads") && shown.contains(env!("CARGO_PKG_VERSION")),
            "{shown}"
        );
        browser.picture("network-wide-light").await;

        browser.click_link("Chains").await;
        browser.fill("#make input[name=name]", "audit").await;
        browser.click("#make button").await;
        browser.shows("#make output", "chain join audit").await;
        browser.shows("#chains", "audit").await;
        browser.shows("#fork-chain", "audit").await;
        browser.fill("#make input[name=name]", "main").await;
        browser.click("#make button").await;
        browser.shows("#make output", "there is a chain").await;
        browser.fill("#fork input[name=at]", "1").await;
        browser.fill("#fork input[name=name]", "branch").await;
        browser.click("#fork button").await;
        browser.shows("#fork output", "Asked of the chain's leader").await;
        // The leader has made it, with the parent's state.
        browser.shows("#chains", "branch").await;
        browser.picture("chains-wide-light").await;
        wait(dir, &["chain", "list"], |list| {
            let chains = list["chains"].as_array().unwrap();
            chains
                .iter()
                .any(|chain| chain["name"] == "branch" && chain["joined"] == true)
        });
        assert_eq!(
            json(dir, &["get", "--key", "k", "--chain", "branch"])["value"],
            "v"
        );

        browser.click_link("Figures").await;
        let facts = browser.shows("#figures", "Transactions\n1").await;
        assert!(facts.contains("Blocks\n2"), "{facts}");
        browser.click_link("the last month").await;
        let chosen = "nav[aria-label='Chain and span'] [aria-current]";
        browser.shows(chosen, "the last month").await;
        browser.shows("#figures", "Hashes a second").await;
        browser.picture("figures-wide-light").await;
        browser.click("nav button.link").await;
        browser.shows("nav", "Sign in").await;
        browser.end().await;

        for (look, name) in LOOKS {
            let browser = Browser::start(look).await;
            for path in ["", "chains", "figures", "tokens", "login"] {
                browser.go(&format!("{url}/{path}")).await;
                browser.shows("main", "").await;
                browser.fits(path).await;
                browser.picture(&format!("server-{path}-{name}")).await;
                if path == "login" {
                    browser.fill("input[name=word]", &format!("{word}\n")).await;
                    browser.shows("nav", "Sign out").await;
                }
            }
            for path in ["tokens", "chains"] {
                browser.go(&format!("{url}/{path}")).await;
                browser.fits(path).await;
                browser.picture(&format!("server-{path}-operator-{name}")).await;
            }
            browser.end().await;
        }
        drop(registered);
    });
}
