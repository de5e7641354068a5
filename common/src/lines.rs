//! Files of lines, read from the front: what receipts and key files are made of.

/// A line that is not what stands there in such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What should be there.
    pub(crate) expected: &'static str,
}

/// What is still to be read of a text.
pub(crate) struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            number: 0,
        }
    }

    /// What was not read.
    pub(crate) const fn rest(&self) -> &'a str {
        self.rest
    }

    /// The line read last is not what it should be.
    pub(crate) const fn bad(&self, expected: &'static str) -> BadLine {
        BadLine {
            line: self.number,
            expected,
        }
    }

    /// The next line without its prefix, if it has it.
    pub(crate) fn optional(&mut self, prefix: &str) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        let value = line.strip_prefix(prefix)?;
        self.rest = rest;
        self.number = self.number.saturating_add(1);
        Some(value)
    }

    /// The next line without its prefix.
    pub(crate) fn value(&mut self, prefix: &str, expected: &'static str) -> Result<&'a str, BadLine> {
        let line = self.number.saturating_add(1);
        self.optional(prefix).ok_or(BadLine { line, expected })
    }

    /// The next line, which is this one.
    pub(crate) fn exact(&mut self, whole: &str, expected: &'static str) -> Result<(), BadLine> {
        let line = self.number.saturating_add(1);
        match self.optional(whole) {
            Some("") => Ok(()),
            _ => Err(BadLine { line, expected }),
        }
    }

    /// The next line's value, which a type reads.
    pub(crate) fn parsed<T: std::str::FromStr>(
        &mut self,
        prefix: &str,
        expected: &'static str,
    ) -> Result<T, BadLine> {
        let value = self.value(prefix, expected)?;
        value.parse().ok().ok_or_else(|| self.bad(expected))
    }

    /// The next line's value as bytes.
    pub(crate) fn hex(&mut self, prefix: &str, expected: &'static str) -> Result<Vec<u8>, BadLine> {
        let text = self.value(prefix, expected)?;
        hex::decode(text).ok().ok_or_else(|| self.bad(expected))
    }

    /// The first line after which two texts of one meaning differ.
    pub(crate) fn first_difference(written: &str, found: &str) -> BadLine {
        let same = written.lines().zip(found.lines()).take_while(|(a, b)| a == b);
        BadLine {
            line: same.count().saturating_add(1),
            expected: "in its one form",
        }
    }
}
