//! A picture for a character that has none: AICO's doorway with a light in it, in colours that
//! follow from the name, so that two characters look like two.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::png;

const WIDTH: u32 = 384;
const HEIGHT: u32 = 512;

/// Hues that look well behind the light: wall and room.
const COLOURS: [([f32; 3], [f32; 3]); 5] = [
    ([133.0, 59.0, 98.0], [67.0, 8.0, 43.0]),
    ([52.0, 96.0, 112.0], [10.0, 42.0, 56.0]),
    ([86.0, 102.0, 58.0], [34.0, 46.0, 16.0]),
    ([150.0, 84.0, 52.0], [72.0, 30.0, 14.0]),
    ([88.0, 76.0, 136.0], [34.0, 24.0, 74.0]),
];
const LIGHT: [f32; 3] = [255.0, 193.0, 98.0];
const PAPER: [f32; 3] = [253.0, 242.0, 233.0];

/// Draws it.
pub(crate) fn drawn(name: &str) -> Vec<u8> {
    let which = name.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    let (wall, room) = COLOURS[which % COLOURS.len()];
    let mut rows = Vec::with_capacity(((WIDTH * 3 + 1) * HEIGHT) as usize);
    for y in 0..HEIGHT {
        rows.push(0);
        for x in 0..WIDTH {
            rows.extend(pixel(x as f32 + 0.5, y as f32 + 0.5, wall, room));
        }
    }
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail.
    let _ = packer.write_all(&rows);
    let packed = packer.finish().unwrap_or_default();
    let mut image = png::SIGNATURE.to_vec();
    let mut header = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    png::append(&mut image, b"IHDR", &header);
    png::append(&mut image, b"IDAT", &packed);
    png::append(&mut image, b"IEND", &[]);
    image
}

fn pixel(x: f32, y: f32, wall: [f32; 3], room: [f32; 3]) -> [u8; 3] {
    let middle = WIDTH as f32 / 2.0;
    let mut colour = PAPER;
    // An arch: a half circle on a rectangle; how far a point is inside of it decides its edge.
    let arch = |half: f32, top: f32, bottom: f32| {
        let centre = top + half;
        let side = half - (x - middle).abs();
        let round = half - ((x - middle).powi(2) + (y - centre).powi(2)).sqrt();
        let inside = if y < centre { round } else { side };
        (inside.min(bottom - y) + 0.5).clamp(0.0, 1.0)
    };
    mix(&mut colour, wall, arch(150.0, 70.0, 470.0));
    let inner = arch(92.0, 128.0, 470.0);
    mix(&mut colour, room, inner);
    let from_light = ((x - middle).powi(2) + (y - 240.0).powi(2)).sqrt();
    // Its beam on the floor, its halo, and itself.
    let spread = 34.0 + (y - 240.0) * 0.26;
    let beam = (spread - (x - middle).abs() + 0.5).clamp(0.0, 1.0) * f32::from(y > 240.0);
    mix(&mut colour, LIGHT, beam * inner * 0.28);
    mix(
        &mut colour,
        LIGHT,
        (1.0 - from_light / 120.0).clamp(0.0, 1.0) * 0.45 * inner,
    );
    mix(
        &mut colour,
        LIGHT,
        (36.0 - from_light + 0.5).clamp(0.0, 1.0),
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "colours from 0 to 255"
    )]
    colour.map(|part| part.round().clamp(0.0, 255.0) as u8)
}

fn mix(colour: &mut [f32; 3], with: [f32; 3], how_much: f32) {
    for (part, other) in colour.iter_mut().zip(with) {
        *part += (other - *part) * how_much;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_small_png_and_two_names_may_look_like_two() {
        let one = drawn("Mara");
        assert!(png::read(&one, &[]).unwrap().image == one);
        assert!(one.len() < 60_000, "{}", one.len());
        assert!(one != drawn("Jonas") || one != drawn("Aico"));
        assert!(one == drawn("Mara"));
    }
}
