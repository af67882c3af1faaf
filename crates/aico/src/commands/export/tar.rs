//! A tar file in the making: plain files only, as POSIX has it, with extended headers for what the
//! old ones can't hold (long names, names that are not ASCII, sizes of 8 GiB and more).

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// Longest name and largest size of an old header.
const LONGEST: usize = 100;
const LARGEST: u64 = 0o77_777_777_777;

/// Writes a tar file.
pub(super) struct Tar<W: Write> {
    out: W,
    /// Seconds since the epoch: of every file.
    time: u64,
}

impl<W: Write> Tar<W> {
    pub(super) fn new(out: W, time: u64) -> Self {
        Self { out, time }
    }

    /// Adds a file of `size` bytes.
    pub(super) fn add(&mut self, name: &str, size: u64, from: &mut impl Read) -> io::Result<()> {
        let mut records = String::new();
        if name.len() > LONGEST || !name.is_ascii() {
            records.push_str(&record("path", name));
        }
        if size > LARGEST {
            records.push_str(&record("size", &size.to_string()));
        }
        if !records.is_empty() {
            let bytes = records.as_bytes();
            self.header("pax", bytes.len() as u64, b'x')?;
            self.out.write_all(bytes)?;
            self.pad(bytes.len() as u64)?;
        }
        self.header(name, size, b'0')?;
        let copied = io::copy(&mut from.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(size)
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over > 0 {
            self.out.write_all(&[0; BLOCK][over..])?;
        }
        Ok(())
    }

    fn header(&mut self, name: &str, size: u64, kind: u8) -> io::Result<()> {
        let mut block = [0_u8; BLOCK];
        let short: Vec<u8> = name
            .bytes()
            .map(|byte| if byte.is_ascii() { byte } else { b'_' })
            .take(LONGEST)
            .collect();
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &short);
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", size.min(LARGEST)).as_bytes());
        put(136, format!("{:011o}\0", self.time.min(LARGEST)).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&block)
    }
}

/// `LENGTH key=value\n`, where the length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extended_record_counts_itself() {
        assert_eq!(record("path", "ab"), "11 path=ab\n");
        for length in [80, 90, 91, 92, 93, 980, 990, 991, 992] {
            let record = record("path", &"x".repeat(length));
            let (told, _) = record.split_once(' ').unwrap();
            assert_eq!(told.parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn blocks_are_whole_and_a_file_that_is_shorter_than_told_is_an_error() {
        let mut tar = Tar::new(Vec::new(), 1);
        tar.add("a", 3, &mut &b"abc"[..]).unwrap();
        tar.add("b", 512, &mut &[1; 512][..]).unwrap();
        assert!(tar.add("c", 4, &mut &b"abc"[..]).is_err());
        let mut tar = Tar::new(Vec::new(), 1);
        tar.add("a", 3, &mut &b"abc"[..]).unwrap();
        let bytes = tar.finish().unwrap();
        assert_eq!(bytes.len(), 4 * BLOCK);
        assert_eq!(&bytes[512..515], b"abc");
    }
}
