//! Reads forward through a file, never past its end, and never more than a limit.

use std::io::Read;

use super::GgufError;

pub(super) struct Reader<R> {
    input: R,
    size: u64,
    limit: u64,
    position: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R, size: u64, limit: u64) -> Self {
        Self {
            input,
            size,
            limit,
            position: 0,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether `bytes` more can be there; tells where they would end otherwise.
    pub(super) fn within(&self, what: &'static str, bytes: u64) -> Result<u64, GgufError> {
        let end = self.position.saturating_add(bytes);
        if end > self.size {
            return Err(GgufError::Cut(what, end));
        }
        if end > self.limit {
            return Err(GgufError::Limit("the size of its head", end, self.limit));
        }
        Ok(end)
    }

    fn fill(&mut self, what: &'static str, buffer: &mut [u8]) -> Result<(), GgufError> {
        let end = self.within(what, buffer.len() as u64)?;
        self.input
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                // The file became shorter while we read.
                std::io::ErrorKind::UnexpectedEof => GgufError::Cut(what, end),
                _ => GgufError::Io(error),
            })?;
        self.position = end;
        Ok(())
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// An unsigned number of `width` bytes, at most 8.
    pub(super) fn number(&mut self, what: &'static str, width: u64) -> Result<u64, GgufError> {
        let mut bytes = [0; 8];
        let width = usize::try_from(width).unwrap_or(8).min(8);
        self.fill(what, &mut bytes[..width])?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn skip(&mut self, what: &'static str, bytes: u64) -> Result<(), GgufError> {
        let end = self.within(what, bytes)?;
        let mut part = self.input.by_ref().take(bytes);
        let skipped = std::io::copy(&mut part, &mut std::io::sink()).map_err(GgufError::Io)?;
        if skipped != bytes {
            return Err(GgufError::Cut(what, end));
        }
        self.position = end;
        Ok(())
    }

    /// A string of at most `most` bytes; `None` when it is not UTF-8.
    pub(super) fn text(
        &mut self,
        what: &'static str,
        most: u64,
    ) -> Result<Option<String>, GgufError> {
        let length = self.u64(what)?;
        if length > most {
            return Err(GgufError::Limit(what, length, most));
        }
        self.text_of(what, length)
    }

    /// A string; `None` when it is longer than `most` (and was skipped) or not UTF-8.
    pub(super) fn text_or_skip(
        &mut self,
        what: &'static str,
        most: u64,
    ) -> Result<Option<String>, GgufError> {
        let length = self.u64(what)?;
        if length > most {
            return self.skip(what, length).map(|()| None);
        }
        self.text_of(what, length)
    }

    fn text_of(&mut self, what: &'static str, length: u64) -> Result<Option<String>, GgufError> {
        self.within(what, length)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(what, &mut bytes)?;
        Ok(String::from_utf8(bytes).ok())
    }
}
