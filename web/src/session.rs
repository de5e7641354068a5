//! Who is signed in with a browser.
//!
//! A person shows the program's secret word once; the browser then holds a random id in a cookie that scripts cannot read and
//! other sites cannot use (`HttpOnly`, `SameSite=Strict`), named after the port, since browsers keep the cookies of all ports
//! of a host together. Ids are kept in memory as hashes: a restart signs everybody out.

use actix_web::cookie::time::Duration as CookieAge;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, ORIGIN};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one stays signed in.
const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// Browsers that are signed in at a time; the oldest is signed out for one more.
const MAX_SESSIONS: usize = 256;

/// The sessions of a program.
pub struct Sessions {
    word: [u8; 32],
    cookie: String,
    secure: bool,
    open: Mutex<VecDeque<([u8; 32], Instant)>>,
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

impl Sessions {
    /// None yet. `word` is what signs in; `secure` where the program serves TLS alone.
    #[must_use]
    pub fn new(word: &str, port: u16, secure: bool) -> Self {
        Self {
            word: hash(word),
            cookie: format!("block-chain-{port}"),
            secure,
            open: Mutex::new(VecDeque::new()),
        }
    }

    /// Whether it is the secret word. Compared by hashes, so that a difference in time says nothing of the word.
    #[must_use]
    pub fn is_word(&self, given: &str) -> bool {
        hash(given) == self.word
    }

    /// Begins a session; the cookie for the browser. `None` where the system gives no randomness.
    #[must_use]
    pub fn begin(&self, now: Instant) -> Option<Cookie<'static>> {
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret).ok()?;
        let id = hex::encode(secret);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while open.len() >= MAX_SESSIONS {
            open.pop_front();
        }
        open.push_back((hash(&id), now));
        Some(self.cookie(
            id,
            CookieAge::seconds(i64::try_from(LIFETIME.as_secs()).unwrap_or(0)),
        ))
    }

    /// Ends the session that a request is of; the cookie that has the browser forget it.
    pub fn end(&self, headers: &HeaderMap) -> Cookie<'static> {
        if let Some(id) = self.id(headers) {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|(known, _)| *known != hash(&id));
        }
        self.cookie(String::new(), CookieAge::ZERO)
    }

    /// Whether a request comes from a browser that is signed in.
    #[must_use]
    pub fn holds(&self, headers: &HeaderMap, now: Instant) -> bool {
        let Some(id) = self.id(headers) else {
            return false;
        };
        let id = hash(&id);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, began)| now.saturating_duration_since(*began) < LIFETIME);
        open.iter().any(|(known, _)| *known == id)
    }

    /// Whether a request shows the secret word; or comes from a browser that is signed in and, where it changes something, from
    /// a page of this very program.
    #[must_use]
    pub fn allows(&self, method: &Method, headers: &HeaderMap, now: Instant) -> bool {
        match bearer(headers) {
            Some(word) => self.is_word(word),
            None => (reads(method) || is_same_origin(headers)) && self.holds(headers, now),
        }
    }

    fn cookie(&self, value: String, age: CookieAge) -> Cookie<'static> {
        Cookie::build(self.cookie.clone(), value)
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Strict)
            .max_age(age)
            .finish()
    }

    fn id(&self, headers: &HeaderMap) -> Option<String> {
        let all = headers.get_all(COOKIE).filter_map(|value| value.to_str().ok());
        let mut pairs = all.flat_map(|value| value.split(';'));
        pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie).then(|| value.to_owned())
        })
    }
}

/// Whether a method changes nothing.
#[must_use]
pub fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// What a request shows as `Authorization: Bearer`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Whether a request was made by a page of this very program: browsers name the origin with everything but GET and HEAD. Behind
/// a proxy that asks by another name the two differ; over TLS browsers say themselves whether they are one, which no page can.
#[must_use]
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "same-origin")
    {
        return true;
    }
    let (Some(origin), Some(host)) = (text(ORIGIN), text(HOST)) else {
        return false;
    };
    let rest = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn headers(of: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in of {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn a_session_lasts_its_time_and_ends_when_it_is_ended() {
        let sessions = Sessions::new("word", 18_000, true);
        let now = Instant::now();
        assert!(sessions.is_word("word") && !sessions.is_word("") && !sessions.is_word("wor"));
        let cookie = sessions.begin(now).unwrap();
        assert_eq!(cookie.name(), "block-chain-18000");
        assert!(cookie.http_only().unwrap() && cookie.secure().unwrap());
        assert_eq!(cookie.same_site(), Some(SameSite::Strict));
        let sent = format!("other=1; {}={}", cookie.name(), cookie.value());
        let with = headers(&[(COOKIE, &sent)]);
        assert!(sessions.holds(&with, now));
        assert!(!sessions.holds(&with, now + LIFETIME), "it is over");
        let again = sessions.begin(now).unwrap();
        let with = headers(&[(COOKIE, &format!("{}={}", again.name(), again.value()))]);
        assert!(sessions.holds(&with, now));
        assert_eq!(sessions.end(&with).value(), "");
        assert!(!sessions.holds(&with, now));
        let made_up = headers(&[(COOKIE, &format!("block-chain-18000={}", "0".repeat(64)))]);
        assert!(!sessions.holds(&made_up, now) && !sessions.holds(&HeaderMap::new(), now));
    }

    #[test]
    fn one_browser_more_than_are_allowed_signs_the_oldest_out() {
        let sessions = Sessions::new("word", 1, false);
        let now = Instant::now();
        let of = |cookie: &Cookie<'_>| headers(&[(COOKIE, &format!("{}={}", cookie.name(), cookie.value()))]);
        let first = of(&sessions.begin(now).unwrap());
        let second = of(&sessions.begin(now).unwrap());
        for _ in 2..=MAX_SESSIONS {
            assert!(sessions.begin(now).is_some());
        }
        assert!(!sessions.holds(&first, now) && sessions.holds(&second, now));
    }

    #[test]
    fn another_origin_is_told_from_the_own() {
        let table = [
            ("http://127.0.0.1:1", "127.0.0.1:1", true),
            ("https://localhost:1", "LOCALHOST:1", true),
            ("http://127.0.0.1:2", "127.0.0.1:1", false),
            ("http://evil.example", "127.0.0.1:1", false),
            ("null", "127.0.0.1:1", false),
            ("127.0.0.1:1", "127.0.0.1:1", false),
        ];
        for (origin, host, same) in table {
            let given = headers(&[(ORIGIN, origin), (HOST, host)]);
            assert_eq!(is_same_origin(&given), same, "{origin} to {host}");
        }
        assert!(!is_same_origin(&headers(&[(HOST, "127.0.0.1:1")])), "no origin");
        let site = HeaderName::from_static("sec-fetch-site");
        let proxied = |of: &str| {
            let given = [
                (ORIGIN, "https://chain.example"),
                (HOST, "127.0.0.1:1"),
                (site.clone(), of),
            ];
            is_same_origin(&headers(&given))
        };
        assert!(proxied("same-origin"), "by the browser's own word");
        assert!(!proxied("cross-site") && !proxied("same-site") && !proxied("none"));
    }
}
