//! Server-sent events, as far as answers of models use them: the data of each event, bounded.
//!
//! Names and ids of events are read over. `error:` is no field of the standard; one server tells
//! failures by it, so it ends an event of its own.

/// Longest line, and longest event.
const LONGEST: usize = 4 << 20;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The `data:` lines of one event, joined.
    Data(Vec<u8>),
    /// What stood after `error:`.
    Error(Vec<u8>),
}

/// A line or an event beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Takes the body in pieces as they come and gives whole events.
#[derive(Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    begun: bool,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    returned: bool,
}

impl Events {
    /// Adds what came; `out` gets the events that are whole by it.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), TooLong> {
        let mut rest = bytes;
        if self.returned && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.returned = false;
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (part, after) = rest.split_at(end);
            self.add(part)?;
            let line = std::mem::take(&mut self.line);
            self.read(&line, out)?;
            rest = match after {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.returned = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.add(rest)
    }

    /// Whether the end of the body comes in the middle of an event.
    pub(super) fn is_amid(&self) -> bool {
        self.has_data || !self.line.is_empty()
    }

    fn add(&mut self, part: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + part.len() > LONGEST {
            return Err(TooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn read(&mut self, line: &[u8], out: &mut Vec<Event>) -> Result<(), TooLong> {
        let line = match self.begun {
            true => line,
            false => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
        };
        self.begun = true;
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                out.push(Event::Data(std::mem::take(&mut self.data)));
            }
            return Ok(());
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(0) => return Ok(()),
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.data.len() + value.len() >= LONGEST {
                    return Err(TooLong);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"error" => out.push(Event::Error(value.to_vec())),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> (Vec<Event>, bool) {
        let (mut events, mut out) = (Events::default(), Vec::new());
        for piece in pieces {
            events.push(piece, &mut out).unwrap();
        }
        (out, events.is_amid())
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text =
            b"\xef\xbb\xbf: a comment\ndata: one\n\ndata: two\r\ndata:three\r\n\r\nevent: x\n\
                     id: 7\nretry\ndata\rdata: \xc3\xa4\r\rerror: {}\n\n";
        let expected = vec![
            Event::Data(b"one".to_vec()),
            Event::Data(b"two\nthree".to_vec()),
            Event::Data("\nä".as_bytes().to_vec()),
            Event::Error(b"{}".to_vec()),
        ];
        assert_eq!(all(&[text]), (expected.clone(), false));
        for cut in 0..text.len() {
            let halves = all(&[&text[..cut], &text[cut..]]);
            assert_eq!(halves, (expected.clone(), false), "{cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(all(&single), (expected, false));
    }

    #[test]
    fn half_an_event_is_noticed_and_one_without_end_refused() {
        assert_eq!(all(&[b"data: x"]), (vec![], true));
        assert_eq!(all(&[b"data: x\n"]), (vec![], true));
        assert_eq!(all(&[b"event: x\n\n"]), (vec![], false));
        let mut events = Events::default();
        let block = vec![b'x'; 1 << 20];
        let mut out = Vec::new();
        let mut pushed = 0;
        while events.push(&block, &mut out).is_ok() {
            pushed += 1;
            assert!(pushed < 5, "a line without end is taken");
        }
        let mut events = Events::default();
        let line = [b"data: ".as_slice(), &block, b"\n"].concat();
        let mut pushed = 0;
        while events.push(&line, &mut out).is_ok() {
            pushed += 1;
            assert!(pushed < 5, "an event without end is taken");
        }
        assert!(out.is_empty());
    }
}
