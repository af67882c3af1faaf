//! Whether an ONNX file is whole as a Protobuf message, before a library reads it.
//!
//! `rten-onnx` 0.27 reads for ever at a number of more than ten bytes, which no writer makes, and
//! follows graphs within graphs as deep as a file says. What it doesn't read is passed over here too.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

/// Bytes of the longest number.
const LONGEST: u32 = 10;
/// Messages within one another: a graph within an operator takes three.
const DEEPEST: u32 = 48;

/// What a field holds.
#[derive(Clone, Copy)]
enum Part {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    /// A message without others.
    Plain,
    /// Numbers side by side.
    Numbers,
}

impl Part {
    /// What the field of this number holds; `None`: nothing that is looked into.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) => Self::Graph,
            (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::Value,
            (Self::Node, 5) => Self::Attribute,
            (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Attribute, 8) | (Self::Tensor, 1 | 5 | 7 | 11) => Self::Numbers,
            (Self::Value, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Model, 8 | 14) | (Self::Tensor, 13) | (Self::Shape, 1) => Self::Plain,
            _ => return None,
        })
    }
}

/// Whether the file at `path` is whole. Blocks.
#[must_use]
pub fn is_whole(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let Ok(length) = file.metadata().map(|about| about.len()) else {
        return false;
    };
    let mut reader = Reader {
        inner: BufReader::new(file),
        at: 0,
    };
    reader.message(Part::Model, length, 0).is_some()
}

struct Reader<R> {
    inner: BufReader<R>,
    at: u64,
}

impl<R: std::io::Read + Seek> Reader<R> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for place in 0..LONGEST {
            let byte = *self.inner.fill_buf().ok()?.first()?;
            self.inner.consume(1);
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.inner.seek_relative(i64::try_from(bytes).ok()?).ok()?;
        self.at = self.at.checked_add(bytes)?;
        Some(())
    }

    fn message(&mut self, part: Part, end: u64, depth: u32) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        while self.at < end {
            let tag = self.number()?;
            match tag & 7 {
                0 => drop(self.number()?),
                1 => self.skip(8)?,
                5 => self.skip(4)?,
                2 => {
                    let length = self.number()?;
                    let stop = self.at.checked_add(length).filter(|stop| *stop <= end)?;
                    match part.field(tag >> 3) {
                        Some(Part::Numbers) => {
                            while self.at < stop {
                                self.number()?;
                            }
                        }
                        Some(inner) => self.message(inner, stop, depth + 1)?,
                        None => self.skip(length)?,
                    }
                    if self.at != stop {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        (self.at == end).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> bool {
        let mut reader = Reader {
            inner: BufReader::new(std::io::Cursor::new(bytes)),
            at: 0,
        };
        reader.message(Part::Model, bytes.len() as u64, 0).is_some()
    }

    fn field(number: u8, inside: &[u8]) -> Vec<u8> {
        let length = inside.len();
        let low = u8::try_from(length & 0x7f).unwrap_or_default() | 0x80;
        let high = u8::try_from(length >> 7).unwrap_or_default();
        [&[number << 3 | 2, low, high], inside].concat()
    }

    #[test]
    fn what_is_cut_or_has_no_end_is_not_whole() {
        // Version, and a graph with a tensor of two dimensions and its bytes.
        let tensor = [field(1, &[3, 0x80, 1]), field(9, &[255; 40])].concat();
        let good = [vec![8, 8], field(7, &field(5, &tensor))].concat();
        assert!(whole(&good) && whole(&[]));
        for length in 3..good.len() {
            assert!(!whole(&good[..length]), "{length}");
        }
        let endless = field(7, &field(5, &field(1, &[0xff; 12])));
        assert!(!whole(&endless));
        assert!(!whole(&[0xff; 64]));
        // Beyond its place, and of a kind that there is not.
        assert!(!whole(&field(7, &[10, 9, 0])) && !whole(&[8 << 3 | 3]));
        // What is not looked into may hold anything.
        assert!(whole(&field(7, &field(10, &[0xff; 12]))));
    }

    #[test]
    fn graphs_within_graphs_have_an_end() {
        let nested = |times| {
            let mut graph = Vec::new();
            for _ in 0..times {
                graph = field(1, &field(5, &field(6, &graph)));
            }
            field(7, &graph)
        };
        assert!(whole(&nested(10)) && !whole(&nested(40)));
    }
}
