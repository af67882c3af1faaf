//! Images that come with a question, as the contracts have them: the bytes of a PNG or a JPEG.

use std::borrow::Cow;

use aico_contracts::v1::turn::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::question::Question;
use super::refusal::Refusal;
use crate::input::too_long_with_images;
use crate::problem::Problem;

/// The largest body of a question that may have images: a few photos.
pub(crate) const BODY: usize = 8 * 1024 * 1024;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// The bytes of an image in base64, or what is wrong with it.
pub(crate) fn of_base64(text: &str) -> Result<Vec<u8>, &'static str> {
    // Some clients break its lines, and the imitated servers read over that.
    let text: Cow<'_, str> = match text.contains(['\r', '\n']) {
        true => text.replace(['\r', '\n'], "").into(),
        false => text.into(),
    };
    if text.is_empty() {
        return Err("is empty");
    }
    let bytes = STANDARD
        .decode(text.as_bytes())
        .map_err(|_| "is not base64")?;
    match bytes.starts_with(PNG) || bytes.starts_with(JPEG) {
        true => Ok(bytes),
        false => Err("is neither PNG nor JPEG: models are sent nothing else"),
    }
}

/// The bytes of an image in a `data:` URL, or what is wrong with it. Its media type is not
/// believed: the bytes tell. No other URL is followed, as that would reach from this machine
/// what a program may not.
pub(crate) fn of_url(url: &str) -> Result<Vec<u8>, &'static str> {
    let data = match url.split_once(':') {
        Some((scheme, data)) if scheme.eq_ignore_ascii_case("data") => data,
        _ => {
            return Err("has no `data:` URL: AICO fetches no images, send it as \
                 `data:image/png;base64,…`");
        }
    };
    let in_base64 = |kind: &str| {
        let last = kind.rsplit(';').next().unwrap_or_default();
        last.trim().eq_ignore_ascii_case("base64")
    };
    match data.split_once(',') {
        Some((kind, text)) if in_base64(kind) => of_base64(text),
        _ => Err("has a `data:` URL without base64: it is `data:image/png;base64,…`"),
    }
}

/// Refuses an image with turns that no model is shown one with.
pub(crate) fn may_come_with(role: Role) -> Result<(), &'static str> {
    match role {
        Role::User | Role::Tool => Ok(()),
        Role::System | Role::Assistant | Role::Unspecified => {
            Err("is out of place: images come with the role `user` or `tool`")
        }
    }
}

/// Refuses a body that is larger without its images than one without any may be: these alone are
/// what more is taken for.
pub(crate) fn are_what_is_large(
    length: usize,
    question: Option<&Question>,
    limit: usize,
) -> Result<(), Problem> {
    let turns = question.map_or(&[][..], |question| &question.turns);
    let images = turns.iter().flat_map(|turn| &turn.images);
    let encoded: usize = images.map(|image| image.len().div_ceil(3) * 4).sum();
    match length.saturating_sub(encoded) > limit {
        true => Err(too_long_with_images(limit, BODY)),
        false => Ok(()),
    }
}

/// That an image can't be taken: where it stands in the request, and why. Nothing of it is quoted.
pub(crate) fn refused(param: &'static str, place: &str, wrong: &str) -> Refusal {
    Refusal::invalid(param, format!("{place} {wrong}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_an_image_tell_what_it_is() {
        let png = STANDARD.encode(PNG);
        assert_eq!(of_base64(&png).as_deref(), Ok(PNG));
        assert_eq!(of_base64("/9j/").as_deref(), Ok(JPEG));
        assert_eq!(of_base64("iVBO\r\nRw0KGgo=\n").as_deref(), Ok(PNG));
        for (text, words) in [
            ("", "empty"),
            ("\n", "empty"),
            ("x", "not base64"),
            ("iVBORw0KGgo", "not base64"),
            ("data:image/png;base64,iVBORw0KGgo=", "not base64"),
            // A GIF, half the signature of a PNG, a WebP.
            ("R0lGODlh", "neither PNG nor JPEG"),
            ("iVBORw==", "neither PNG nor JPEG"),
            ("UklGRgAAAABXRUJQ", "neither PNG nor JPEG"),
        ] {
            let wrong = of_base64(text).unwrap_err();
            assert!(wrong.contains(words), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_url_holds_its_image_or_is_not_followed() {
        for url in [
            "data:image/png;base64,iVBORw0KGgo=",
            "DATA:image/jpeg;charset=x;BASE64,iVBORw0KGgo=",
            "data:;base64,iVBORw0KGgo=",
        ] {
            assert_eq!(of_url(url).as_deref(), Ok(PNG), "{url}");
        }
        for (url, words) in [
            ("http://127.0.0.1:8771/a.png", "fetches no images"),
            (
                "https://example.org/data:;base64,iVBORw0KGgo=",
                "fetches no images",
            ),
            ("file:///etc/passwd", "fetches no images"),
            ("iVBORw0KGgo=", "fetches no images"),
            ("", "fetches no images"),
            ("data:image/png,iVBORw0KGgo=", "without base64"),
            ("data:image/png;base64", "without base64"),
            ("data:image/png;base64,", "is empty"),
            ("data:image/png;base64,?", "not base64"),
        ] {
            let wrong = of_url(url).unwrap_err();
            assert!(wrong.contains(words), "{url}: {wrong}");
        }
    }
}
