//! A real browser without a screen, driven by its own driver.

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long something may take that a person waits for. Builds and other tests run beside it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The driver's process, which ends with this value, and with it the browser.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait().map(drop));
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) dark: bool,
    pub(crate) width: u32,
}

pub(crate) const WIDE: Look = Look {
    dark: false,
    width: 1_200,
};
pub(crate) const DARK_PHONE: Look = Look {
    dark: true,
    width: 390,
};

/// A browser with one window.
pub(crate) struct Browser {
    pub(crate) client: Client,
    _driver: Driver,
    profile: tempfile::TempDir,
}

/// Keys, as the driver names them.
const TAB: &str = "\u{E004}";
pub(crate) const ENTER: &str = "\u{E007}";
/// More stops than any page has.
const STOPS: usize = 200;

impl Browser {
    pub(crate) async fn start(look: Look) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let driver = Driver(driver);
        let port = lines
            .map(Result::unwrap)
            .find_map(|line| {
                Some(
                    line.split_once("started successfully on port ")?
                        .1
                        .trim_end_matches('.')
                        .to_owned(),
                )
            })
            .unwrap();
        let profile = tempfile::tempdir().unwrap();
        let scheme = u8::from(!look.dark);
        // Pictures for people show whole pages.
        let height = match std::env::var_os("BLOCK_CHAIN_PICTURES") {
            Some(_) => 2_400,
            None => 1_000,
        };
        let arguments = [
            "--headless=new".to_owned(),
            // Its own sandbox needs what containers, and root, have not.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--window-size={},{height}", look.width),
            format!("--blink-settings=preferredColorScheme={scheme}"),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let downloads = profile.path().join("downloads");
        let mut options = json!({ "args": arguments, "prefs": { "download.default_directory": downloads } });
        if look.width < 500 {
            // A desktop's window has a least width; a telephone's screen is smaller.
            let metrics = json!({ "width": look.width, "height": height, "pixelRatio": 2.0, "touch": false, "mobile": false });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        Self {
            client,
            _driver: driver,
            profile,
        }
    }

    pub(crate) async fn go(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// The first element of a CSS selector, once it is there.
    pub(crate) async fn element(&self, css: &str) -> Element {
        self.found(Locator::Css(css)).await
    }

    pub(crate) async fn click(&self, css: &str) {
        self.element(css).await.click().await.unwrap();
    }

    pub(crate) async fn click_link(&self, text: &str) {
        let link = self.found(Locator::LinkText(text)).await;
        link.click().await.unwrap();
    }

    async fn found(&self, what: Locator<'_>) -> Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(what).await;
        let source = match &found {
            Ok(_) => String::new(),
            Err(_) => self.client.source().await.unwrap(),
        };
        assert!(found.is_ok(), "{what:?}: {found:?}\n{source}");
        found.unwrap()
    }

    pub(crate) async fn fill(&self, css: &str, text: &str) {
        self.element(css).await.send_keys(text).await.unwrap();
    }

    /// Waits until an element's text holds a part; the text.
    pub(crate) async fn shows(&self, css: &str, part: &str) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            // The element may be put in anew between being found and being read.
            let text = match self.client.find(Locator::Css(css)).await {
                Ok(element) => element.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            };
            if text.contains(part) {
                return text;
            }
            let source = self.client.source().await.unwrap();
            assert!(
                std::time::Instant::now() < deadline,
                "{css} has {text:?}, not {part:?}\n{source}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Says yes to the question that the page asks; the question.
    pub(crate) async fn agree(&self) -> String {
        let question = self.client.get_alert_text().await.unwrap();
        self.client.accept_alert().await.unwrap();
        question
    }

    /// Presses the tabulator until an element has the focus, which must show.
    pub(crate) async fn tab_to(&self, css: &str) {
        let is_there = format!("return document.activeElement.matches({})", json!(css));
        for _ in 0..STOPS {
            self.keys(TAB).await;
            if self.script(&is_there).await == true {
                let outline = "return getComputedStyle(document.activeElement).outlineStyle";
                assert_ne!(
                    self.script(outline).await,
                    "none",
                    "{css}: the focus does not show"
                );
                return;
            }
        }
        let source = self.client.source().await.unwrap();
        assert!(source.is_empty(), "no {css} within {STOPS} stops\n{source}");
    }

    /// Sends keys to whatever has the focus.
    pub(crate) async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(keys).await.unwrap();
    }

    /// A file that a click has the browser download, once it is whole.
    pub(crate) async fn downloaded(&self, name: &str) -> std::path::PathBuf {
        let path = self.profile.path().join("downloads").join(name);
        let deadline = std::time::Instant::now() + PATIENCE;
        while !path.exists() {
            assert!(
                std::time::Instant::now() < deadline,
                "{} did not come",
                path.display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        path
    }

    pub(crate) async fn script(&self, text: &str) -> serde_json::Value {
        self.client.execute(text, Vec::new()).await.unwrap()
    }

    /// Nothing reaches beyond the window's sides.
    pub(crate) async fn fits(&self, what: &str) {
        let beyond = self
            .script("return document.documentElement.scrollWidth - window.innerWidth")
            .await;
        assert!(beyond.as_i64().unwrap() <= 0, "{what}: {beyond} pixels too wide");
    }

    /// Keeps a picture of the whole page where `BLOCK_CHAIN_PICTURES` names a folder.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("BLOCK_CHAIN_PICTURES") else {
            return;
        };
        let bytes = self.client.screenshot().await.unwrap();
        let folder = std::path::PathBuf::from(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    pub(crate) async fn end(self) {
        self.client.clone().close().await.unwrap();
    }
}
