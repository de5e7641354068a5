//! Which bytes PostgreSQL can hold as `text`, and which text as `jsonb`. What it cannot is there as `bytea` alone.

/// Digits in a row that are taken for a number that `jsonb` can hold: it counts up to 131,072, JSON has no limit.
const MAX_DIGITS: usize = 1_000;
/// Digits of an exponent, for the same reason.
const MAX_EXPONENT_DIGITS: usize = 3;

/// The database's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    /// `SQL_ASCII`: `jsonb` can hold no escaped character there.
    Ascii,
}

/// The bytes as text: UTF-8 without NUL.
pub(super) fn as_text(bytes: &[u8]) -> Option<&str> {
    if bytes.contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// The text as JSON, where `jsonb` can hold it.
pub(super) fn as_json(text: Option<&str>, encoding: Encoding) -> Option<&str> {
    let text = text?;
    let first = text.trim_start_matches([' ', '\t', '\n', '\r']).bytes().next()?;
    if !matches!(
        first,
        b'{' | b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n'
    ) {
        return None;
    }
    let refused = if encoding == Encoding::Utf8 {
        "\\u0000"
    } else {
        "\\u"
    };
    if text.contains(refused) || !numbers_fit(text) {
        return None;
    }
    // A whole value, not only skipped over: this is where lone surrogates and numbers like 1e400 are found, and where
    // nesting is limited (to 128).
    serde_json::from_str::<serde_json::Value>(text).ok().map(|_| text)
}

/// Whether all numbers outside strings have few enough digits, of exponents too.
fn numbers_fit(text: &str) -> bool {
    let (mut in_string, mut escaped, mut in_exponent, mut digits) = (false, false, false, 0_usize);
    for byte in text.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'0'..=b'9' => digits += 1,
            b'e' | b'E' if digits > 0 => (in_exponent, digits) = (true, 0),
            b'+' | b'-' if in_exponent && digits == 0 => {}
            b'.' => {}
            _ => (in_exponent, digits, in_string) = (false, 0, byte == b'"'),
        }
        if digits
            > if in_exponent {
                MAX_EXPONENT_DIGITS
            } else {
                MAX_DIGITS
            }
        {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_jsonb_takes_is_json() {
        let (long, deep) = ("9".repeat(200_000), "[".repeat(5_000) + &"]".repeat(5_000));
        let table = [
            ("{\"a\":[1,2.5,null]}", true),
            (" \n{}", true),
            ("\"text\"", true),
            ("\"1e99999 \\\" 1e99999\"", true),
            ("[1e300,-1.5E-300]", true),
            ("plain text", false),
            ("\"\\u0000\"", false),
            ("\"\\ud800\"", false),
            ("1e400", false),
            ("1e-20000", false),
            ("[\"\\\\\",1e-20000]", false),
            (long.as_str(), false),
            (deep.as_str(), false),
            ("{\"a\":1", false),
            ("NaN", false),
            ("\u{a0}1", false),
            ("", false),
        ];
        for (text, is_json) in table {
            assert_eq!(
                as_json(Some(text), Encoding::Utf8).is_some(),
                is_json,
                "{}",
                &text[..text.len().min(20)]
            );
        }
    }

    #[test]
    fn an_escape_needs_a_database_of_utf_8() {
        let text = Some("\"\\u00e9\"");
        assert_eq!(
            (as_json(text, Encoding::Utf8), as_json(text, Encoding::Ascii)),
            (text, None)
        );
    }

    #[test]
    fn text_is_utf_8_without_nul() {
        assert_eq!(
            (as_text(b"a\0b"), as_text(&[0xff]), as_text(b"ab"), as_text(b"")),
            (None, None, Some("ab"), Some(""))
        );
    }
}
