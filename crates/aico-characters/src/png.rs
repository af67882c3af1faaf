//! PNG as far as a character card needs it: texts out of it, texts into it, and an image that is
//! checked to the last row and holds nothing but the image.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::CharacterError;
use crate::{LARGEST_CARD, LARGEST_SIDE};

pub(crate) const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Most bytes of the rows of an image, as they come out of their compression.
const LARGEST_ROWS: u64 = 80 * 1024 * 1024;
/// Most bytes of a card as it stands in a chunk, in base64.
const LARGEST_TEXT: usize = LARGEST_CARD / 3 * 4 + 1024;
/// Ancillary chunks that change how the image looks; every other one is left out, for cameras and
/// programs note places, names and times in them.
const LOOKS: [&[u8; 4]; 4] = [b"tRNS", b"gAMA", b"cHRM", b"sRGB"];

/// What is in a PNG.
pub(crate) struct Png {
    /// Of the keywords that were asked for, in the order in which they stand there.
    pub(crate) texts: Vec<(&'static str, Vec<u8>)>,
    /// The image alone.
    pub(crate) image: Vec<u8>,
}

fn damaged(what: &str) -> CharacterError {
    CharacterError::new(format!("The PNG is damaged: {what}."))
        .advice("Get the file again; programs that send pictures often change them on the way.")
}

/// Reads a PNG and the texts under these keywords.
pub(crate) fn read(bytes: &[u8], keywords: &[&'static str]) -> Result<Png, CharacterError> {
    let mut rest = bytes
        .strip_prefix(&SIGNATURE)
        .ok_or_else(|| CharacterError::new("This is no PNG."))?;
    let mut png = Png {
        texts: Vec::new(),
        image: SIGNATURE.to_vec(),
    };
    let mut rows: Option<Rows> = None;
    let mut header: Option<Header> = None;
    let mut palette = false;
    loop {
        let (kind, data) = chunk(&mut rest)?;
        let Some(known) = &header else {
            if kind != *b"IHDR" {
                return Err(damaged("it does not begin with its header"));
            }
            header = Some(Header::read(data)?);
            append(&mut png.image, &kind, data);
            continue;
        };
        match &kind {
            b"IDAT" => {
                if known.colour == 3 && !palette {
                    return Err(damaged("its palette is missing"));
                }
                let open = match &mut rows {
                    Some(rows) if rows.closed => {
                        return Err(damaged("its image is in more than one piece"));
                    }
                    Some(rows) => rows,
                    None => rows.insert(Rows::new(known)),
                };
                open.take(data)?;
                append(&mut png.image, &kind, data);
                continue;
            }
            b"IEND" => {
                let whole = rows.is_some_and(|rows| rows.whole());
                if !whole || !data.is_empty() {
                    return Err(damaged("its image is not whole"));
                }
                append(&mut png.image, &kind, data);
                // What stands behind the end belongs to no image.
                return Ok(png);
            }
            b"PLTE" => {
                let fits = !data.is_empty() && data.len() <= 768 && data.len().is_multiple_of(3);
                if palette || rows.is_some() || !fits || matches!(known.colour, 0 | 4) {
                    return Err(damaged("its palette makes no sense"));
                }
                palette = true;
                append(&mut png.image, &kind, data);
            }
            b"tEXt" | b"zTXt" | b"iTXt" => {
                // The first of each counts. Each other one would take as much memory as it.
                let mut open = keywords.to_vec();
                open.retain(|keyword| png.texts.iter().all(|(known, _)| known != keyword));
                if let Some((keyword, text)) = text(&kind, data, &open)? {
                    png.texts.push((keyword, text));
                }
            }
            b"IHDR" => return Err(damaged("it has two headers")),
            kind if LOOKS.contains(&kind) && rows.is_none() && data.len() <= 1024 => {
                append(&mut png.image, kind, data);
            }
            // A chunk that one has to understand, and that there is none of in the standard.
            kind if kind[0].is_ascii_uppercase() => {
                return Err(damaged("it has a part that only other programs know"));
            }
            _ => {}
        }
        if let Some(rows) = &mut rows {
            rows.closed = true;
        }
    }
}

/// The next chunk, its sum checked.
fn chunk<'a>(rest: &mut &'a [u8]) -> Result<([u8; 4], &'a [u8]), CharacterError> {
    let cut = || damaged("it ends too early");
    let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
    let (kind, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
    if !kind.iter().all(u8::is_ascii_alphabetic) {
        return Err(damaged("a part of it has no name"));
    }
    let (data, after) = after.split_at_checked(length).ok_or_else(cut)?;
    let (sum, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
    if u32::from_be_bytes(*sum) != checksum(kind, data) {
        return Err(damaged("a checksum is wrong"));
    }
    *rest = after;
    Ok((*kind, data))
}

fn checksum(kind: &[u8; 4], data: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(kind);
    sum.update(data);
    sum.finalize()
}

/// Appends a chunk.
pub(crate) fn append(to: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).unwrap_or_default();
    to.extend(length.to_be_bytes());
    to.extend(kind);
    to.extend(data);
    to.extend(checksum(kind, data).to_be_bytes());
}

/// An image with these texts before its end. `image` is one that [`read`] gave back.
pub(crate) fn with_texts(image: &[u8], texts: &[(&str, &str)]) -> Vec<u8> {
    const END: usize = 12;
    let (head, end) = image.split_at(image.len().saturating_sub(END));
    let mut all = head.to_vec();
    for (keyword, text) in texts {
        let mut data = keyword.as_bytes().to_vec();
        data.push(0);
        data.extend(text.as_bytes());
        append(&mut all, b"tEXt", &data);
    }
    all.extend(end);
    all
}

/// The text of a chunk, when its keyword was asked for.
fn text(
    kind: &[u8; 4],
    data: &[u8],
    keywords: &[&'static str],
) -> Result<Option<(&'static str, Vec<u8>)>, CharacterError> {
    let Some((keyword, rest)) = cut_at_zero(data) else {
        return Ok(None);
    };
    let wanted = keywords
        .iter()
        .find(|wanted| wanted.as_bytes().eq_ignore_ascii_case(keyword));
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let broken = || damaged("the card in it can't be read");
    let text: Cow<'_, [u8]> = match kind {
        b"tEXt" => rest.into(),
        b"zTXt" => {
            let packed = rest.strip_prefix(&[0]).ok_or_else(broken)?;
            unpack(packed)?.into()
        }
        _ => {
            let ([packed, 0], rest) = rest.split_first_chunk().ok_or_else(broken)? else {
                return Err(broken());
            };
            let (_language, rest) = cut_at_zero(rest).ok_or_else(broken)?;
            let (_translated, rest) = cut_at_zero(rest).ok_or_else(broken)?;
            match packed {
                0 => rest.into(),
                1 => unpack(rest)?.into(),
                _ => return Err(broken()),
            }
        }
    };
    if text.len() > LARGEST_TEXT {
        return Err(too_large());
    }
    Ok(Some((wanted, text.into_owned())))
}

pub(crate) fn too_large() -> CharacterError {
    CharacterError::new(format!(
        "The card is too large: at most {} KiB are taken.",
        LARGEST_CARD / 1024
    ))
}

fn cut_at_zero(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|byte| *byte == 0)?;
    Some((&data[..at], &data[at + 1..]))
}

/// Unpacks no more than a card may have.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, CharacterError> {
    let mut text = Vec::new();
    let most = LARGEST_TEXT as u64 + 1;
    flate2::read::ZlibDecoder::new(packed)
        .take(most)
        .read_to_end(&mut text)
        .map_err(|_| damaged("the card in it can't be unpacked"))?;
    if text.len() > LARGEST_TEXT {
        return Err(too_large());
    }
    Ok(text)
}

struct Header {
    width: u32,
    height: u32,
    bits: u32,
    colour: u8,
    interlaced: bool,
}

impl Header {
    fn read(data: &[u8]) -> Result<Self, CharacterError> {
        let wrong = || damaged("its header makes no sense");
        let (width, rest) = data.split_first_chunk().ok_or_else(wrong)?;
        let (height, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
        let &[depth, colour, 0, 0, interlaced @ (0 | 1)] = rest else {
            return Err(wrong());
        };
        let samples = match (colour, depth) {
            (0, 1 | 2 | 4 | 8 | 16) | (3, 1 | 2 | 4 | 8) => 1,
            (2, 8 | 16) => 3,
            (4, 8 | 16) => 2,
            (6, 8 | 16) => 4,
            _ => return Err(wrong()),
        };
        let header = Self {
            width: u32::from_be_bytes(*width),
            height: u32::from_be_bytes(*height),
            bits: samples * u32::from(depth),
            colour,
            interlaced: interlaced == 1,
        };
        if header.width == 0 || header.height == 0 {
            return Err(wrong());
        }
        // Only sides that are within the limit are multiplied: others may be beyond 64 bits.
        let side = header.width.max(header.height);
        if side > LARGEST_SIDE || header.bytes() > LARGEST_ROWS {
            return Err(CharacterError::new(format!(
                "The picture is too large: {} by {} pixels, at most {LARGEST_SIDE} by {LARGEST_SIDE} \
                 are taken.",
                header.width, header.height
            ))
            .advice("Make it smaller in a program for pictures."));
        }
        Ok(header)
    }

    /// Of all rows, unpacked.
    fn bytes(&self) -> u64 {
        let passes = self.passes();
        passes.iter().map(|(rows, length)| rows * length).sum()
    }

    /// Rows of each pass, and the bytes of one with the byte that says how it is filtered.
    fn passes(&self) -> Vec<(u64, u64)> {
        let (width, height, bits) = (
            u64::from(self.width),
            u64::from(self.height),
            u64::from(self.bits),
        );
        let pass = |columns: u64, rows: u64| (rows, (columns * bits).div_ceil(8) + 1);
        if !self.interlaced {
            return vec![pass(width, height)];
        }
        // Where each pass of Adam7 begins, and its steps: across, down.
        const ADAM7: [[u64; 4]; 7] = [
            [0, 0, 8, 8],
            [4, 0, 8, 8],
            [0, 4, 4, 8],
            [2, 0, 4, 4],
            [0, 2, 2, 4],
            [1, 0, 2, 2],
            [0, 1, 1, 2],
        ];
        ADAM7
            .iter()
            .map(|[x, y, across, down]| {
                let count =
                    |all: u64, from: u64, step: u64| all.saturating_sub(from).div_ceil(step);
                (count(width, *x, *across), count(height, *y, *down))
            })
            .filter(|(columns, rows)| *columns > 0 && *rows > 0)
            .map(|(columns, rows)| pass(columns, rows))
            .collect()
    }
}

/// The rows of an image as they come out of their compression: counted and looked at, not kept.
struct Rows {
    inflate: Decompress,
    passes: std::vec::IntoIter<(u64, u64)>,
    /// Rows that are left of this pass, and the bytes of one.
    pass: (u64, u64),
    /// Bytes that are left of this row.
    left: u64,
    ended: bool,
    /// Another chunk came: there may be no more of it.
    closed: bool,
    buffer: Vec<u8>,
}

impl Rows {
    fn new(header: &Header) -> Self {
        let mut passes = header.passes().into_iter();
        let pass = passes.next().unwrap_or_default();
        Self {
            inflate: Decompress::new(true),
            passes,
            pass,
            left: pass.1,
            ended: false,
            closed: false,
            buffer: vec![0; 32 * 1024],
        }
    }

    fn take(&mut self, mut data: &[u8]) -> Result<(), CharacterError> {
        let broken = || damaged("its image can't be unpacked");
        while !self.ended && !data.is_empty() {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let mut buffer = std::mem::take(&mut self.buffer);
            let status = self
                .inflate
                .decompress(data, &mut buffer, FlushDecompress::None)
                .map_err(|_| broken())?;
            let read = usize::try_from(self.inflate.total_in() - read).map_err(|_| broken())?;
            let written =
                usize::try_from(self.inflate.total_out() - written).map_err(|_| broken())?;
            data = data.get(read..).ok_or_else(broken)?;
            let seen = self.see(buffer.get(..written).unwrap_or_default());
            self.buffer = buffer;
            seen?;
            self.ended = status == Status::StreamEnd;
            if read == 0 && written == 0 && !self.ended {
                return Err(broken());
            }
        }
        Ok(())
    }

    fn see(&mut self, mut bytes: &[u8]) -> Result<(), CharacterError> {
        while !bytes.is_empty() {
            if self.pass.0 == 0 {
                return Err(damaged("its image is longer than it says"));
            }
            if self.left == self.pass.1 && bytes[0] > 4 {
                return Err(damaged("a row of its image makes no sense"));
            }
            let length = bytes
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            bytes = &bytes[length..];
            self.left -= length as u64;
            if self.left == 0 {
                self.pass.0 -= 1;
                if self.pass.0 == 0 {
                    self.pass = self.passes.next().unwrap_or_default();
                }
                self.left = self.pass.1;
            }
        }
        Ok(())
    }

    /// All rows came, and nothing is missing behind them.
    fn whole(mut self) -> bool {
        if !self.ended {
            // The end of the compression may still be inside of it.
            let status = self
                .inflate
                .decompress(&[], &mut self.buffer, FlushDecompress::Finish);
            self.ended = matches!(status, Ok(Status::StreamEnd));
        }
        self.ended && self.pass.0 == 0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write as _;

    /// A whole PNG of one colour, with these chunks before the image.
    pub(crate) fn picture(width: u32, height: u32, chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut all = SIGNATURE.to_vec();
        let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
        header.extend([8, 0, 0, 0, 0]);
        append(&mut all, b"IHDR", &header);
        for (kind, data) in chunks {
            append(&mut all, kind, data);
        }
        let rows = vec![0; (width as usize + 1) * height as usize];
        append(&mut all, b"IDAT", &packed(&rows));
        append(&mut all, b"IEND", &[]);
        all
    }

    pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn why(bytes: &[u8]) -> String {
        read(bytes, &["chara"]).err().unwrap().what
    }

    fn text_chunk(head: &[u8], text: &[u8]) -> Vec<u8> {
        [head, text].concat()
    }

    #[test]
    fn texts_of_each_kind_are_found_and_the_image_keeps_nothing_of_them() {
        let chunks: [(&[u8; 4], Vec<u8>); 5] = [
            (b"tEXt", text_chunk(b"chara\0", b"one")),
            (b"zTXt", text_chunk(b"Chara\0\0", &packed(b"two"))),
            (b"iTXt", text_chunk(b"chara\0\0\0en\0x\0", b"three")),
            (b"iTXt", text_chunk(b"chara\0\x01\0\0\0", &packed(b"four"))),
            (b"eXIf", b"where it was taken".to_vec()),
        ];
        let words = [&b"one"[..], b"two", b"three", b"four"];
        for (chunk, word) in chunks.iter().zip(words) {
            let picture = picture(5, 3, &[chunk.clone(), chunks[4].clone()]);
            let png = read(&picture, &["ccv3", "chara"]).unwrap();
            assert_eq!(png.texts, [("chara", word.to_vec())]);
        }
        // The first of a kind counts, and nothing is made of the others.
        let bomb = packed(&vec![b'A'; LARGEST_TEXT + 10]);
        let more = [
            &chunks[..],
            &[
                (b"zTXt", text_chunk(b"chara\0\0", &bomb)),
                (b"tEXt", text_chunk(b"ccv3\0", b"five")),
            ],
        ];
        let png = read(&picture(5, 3, &more.concat()), &["ccv3", "chara"]).unwrap();
        let found = [("chara", b"one".to_vec()), ("ccv3", b"five".to_vec())];
        assert_eq!(png.texts, found);
        assert_eq!(png.image, picture(5, 3, &[]));
    }

    #[test]
    fn a_text_put_in_is_found_again() {
        let with = with_texts(&picture(1, 1, &[]), &[("chara", "abc")]);
        assert_eq!(read(&with, &["chara"]).unwrap().texts[0].1, b"abc");
    }

    #[test]
    fn what_is_cut_flipped_or_turned_about_is_refused() {
        let whole = picture(4, 4, &[]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end], &[]).is_err(), "cut at {end}");
        }
        for at in 8..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped, &[]).is_err(), "flipped at {at}");
        }
        let mut more = whole.clone();
        more.extend(b"behind the end");
        assert_eq!(read(&more, &[]).unwrap().image, whole);
    }

    #[test]
    fn images_are_measured_before_they_are_unpacked_and_while_they_are() {
        assert!(why(&picture(5000, 1, &[])).starts_with("The picture is too large"));
        // Its rows have more bytes than 64 bits can count.
        let endless = Header::read(&[&[255; 8][..], &[16, 6, 0, 0, 1]].concat());
        let why_endless = endless.err().unwrap().what;
        assert!(why_endless.starts_with("The picture is too large"));
        let mut long = SIGNATURE.to_vec();
        append(&mut long, b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
        append(&mut long, b"IDAT", &packed(&vec![0; 10_000_000]));
        append(&mut long, b"IEND", &[]);
        assert!(why(&long).contains("longer than it says"));
    }

    #[test]
    fn a_card_that_swells_is_refused() {
        let bomb = text_chunk(b"chara\0\0", &packed(&vec![b'A'; LARGEST_TEXT + 10]));
        assert!(bomb.len() < 100_000);
        assert!(why(&picture(1, 1, &[(b"zTXt", bomb)])).starts_with("The card is too large"));
    }

    #[test]
    fn interlaced_images_are_counted_right() {
        for (width, height) in [(1, 1), (2, 5), (8, 8), (9, 3)] {
            let header = [width, height].map(u32::to_be_bytes).concat();
            let mut all = SIGNATURE.to_vec();
            append(&mut all, b"IHDR", &[&header[..], &[8, 6, 0, 0, 1]].concat());
            // Every pixel is in one pass.
            let header = Header::read(&[&header[..], &[8, 6, 0, 0, 1]].concat()).unwrap();
            let bytes: u64 = header
                .passes()
                .iter()
                .map(|(rows, length)| rows * (length - 1))
                .sum();
            assert_eq!(bytes, u64::from(width) * u64::from(height) * 4);
            let rows = usize::try_from(header.bytes()).unwrap();
            append(&mut all, b"IDAT", &packed(&vec![0; rows]));
            append(&mut all, b"IEND", &[]);
            assert!(read(&all, &[]).is_ok());
        }
    }
}
