//! Embeds the built UI (`ui/dist`), compressed once here instead of on each request.
//!
//! Without Node there is no `ui/dist`: the crate then carries one honest page that says how to
//! get the UI, so that a plain `cargo build` always works.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let ui = here.join("../../ui");
    let dist = ui.join("dist");
    if ui.is_dir() && !dist.exists() {
        // Cargo takes a watched path that is missing for one that has changed, and would
        // build this crate anew each time. An empty folder says the same thing quietly.
        drop(fs::create_dir(&dist));
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=placeholder");
    if dist.is_dir() {
        println!("cargo:rerun-if-changed={}", dist.display());
    }

    let built = dist.join("index.html").is_file();
    let root = if built {
        dist
    } else {
        here.join("placeholder")
    };
    let out = PathBuf::from(env::var("OUT_DIR")?).join("ui");
    drop(fs::remove_dir_all(&out));
    fs::create_dir_all(&out)?;

    let mut files = Vec::new();
    walk(&root, &mut files)?;
    files.sort();
    let mut table = format!("pub(super) const BUILT: bool = {built};\n");
    table.push_str("pub(super) static FILES: &[File] = &[\n");
    for (index, file) in files.iter().enumerate() {
        let name = file
            .strip_prefix(&root)?
            .to_string_lossy()
            .replace('\\', "/");
        let bytes = fs::read(file)?;
        let hash = Sha256::digest(&bytes);
        let mut tag = String::new();
        for byte in hash.iter().take(12) {
            write!(tag, "{byte:02x}")?;
        }
        let plain = keep(&out, index, "plain", &bytes)?;
        let (mut gzip, mut br) = ("None".to_owned(), "None".to_owned());
        if compressible(&name) {
            let packed = gzipped(&bytes)?;
            if packed.len() < bytes.len() {
                gzip = format!("Some({})", keep(&out, index, "gz", &packed)?);
            }
            let packed = brotlied(&bytes)?;
            if packed.len() < bytes.len() {
                br = format!("Some({})", keep(&out, index, "br", &packed)?);
            }
        }
        writeln!(
            table,
            "    File {{ path: {name:?}, mime: {:?}, tag: \"\\\"{tag}\\\"\", plain: {plain}, \
             gzip: {gzip}, br: {br} }},",
            mime(&name)
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("files.rs"), table)?;
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Writes what is to be embedded and returns the expression that embeds it.
fn keep(out: &Path, index: usize, kind: &str, bytes: &[u8]) -> Result<String> {
    let path = out.join(format!("{index}.{kind}"));
    fs::write(&path, bytes)?;
    Ok(format!("include_bytes!({:?})", path.to_string_lossy()))
}

fn gzipped(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn brotlied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    {
        let mut writer = brotli::CompressorWriter::new(&mut packed, 64 * 1024, 9, 22);
        writer.write_all(bytes)?;
    }
    Ok(packed)
}

fn extension(name: &str) -> &str {
    Path::new(name)
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
}

fn compressible(name: &str) -> bool {
    matches!(
        extension(name),
        "html" | "js" | "mjs" | "css" | "json" | "svg" | "webmanifest" | "txt" | "wasm" | "map"
    )
}

/// What Vite writes; anything else is offered as bytes and, with `nosniff`, not run.
fn mime(name: &str) -> &'static str {
    match extension(name) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
