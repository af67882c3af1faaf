//! Compiles the `.proto` files without `protoc`, and writes what prost leaves out.
//!
//! For each message: its full protobuf name (`Payload`), and a `Debug` that tells no content
//! unless the message is on the short list of those that never hold text of a person, a name or
//! a path. Telling nothing is the default, so a new message can't leak by being forgotten.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

const FILES: [&str; 8] = [
    "aico/v1/activity.proto",
    "aico/v1/engines.proto",
    "aico/v1/envelope.proto",
    "aico/v1/link.proto",
    "aico/v1/conversation.proto",
    "aico/v1/models.proto",
    "aico/v1/system.proto",
    "aico/v1/transformers.proto",
];

/// Messages that hold numbers, states and fixed words only: prost's own `Debug` is safe.
const PLAIN: [&str; 11] = [
    "AnswerStats",
    "AskedTotals",
    "Empty",
    "Exchange",
    "Fault",
    "GeneratedEnd",
    "GetPresence",
    "ListCharacters",
    "ListModels",
    "ReadActivity",
    "TokenCount",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES, ["proto"])?;

    let mut quiet = Vec::new();
    let mut impls = String::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            let name = message.name();
            let plain = PLAIN.contains(&name);
            if !plain {
                quiet.push(format!(".{}.{name}", file.package()));
            }
            write_message(&mut impls, file.package(), "", "", message, plain)?;
        }
    }

    prost_build::Config::new()
        // By hand, in src/envelope.rs.
        .extern_path(".aico.v1.Envelope", "crate::envelope::Envelope")
        .bytes([".aico.v1.Frame", ".aico.v1.Control"])
        .skip_debug(&quiet)
        .compile_fds(descriptors)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("aico.v1.impls.rs"), impls)?;
    check_listed(Path::new("proto"))
}

/// A file that is added to the folder but not to `FILES` would silently not be compiled.
fn check_listed(root: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(root.join("aico/v1"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !FILES.iter().any(|file| file.ends_with(&format!("/{name}"))) {
            return Err(format!("proto/aico/v1/{name} is not in build.rs FILES").into());
        }
    }
    Ok(())
}

type Descriptor = protox::prost_reflect::prost_types::DescriptorProto;

fn write_message(
    out: &mut String,
    package: &str,
    outer: &str,
    module: &str,
    message: &Descriptor,
    plain: bool,
) -> Result<(), Box<dyn Error>> {
    let name = message.name();
    let full = format!("{package}.{outer}{name}");
    let path = format!("{module}{name}");
    writeln!(
        out,
        "impl crate::Payload for {path} {{ const TYPE: &'static str = \"{full}\"; }}"
    )?;
    let inner = format!("{module}{}::", snake(name));
    if !plain {
        writeln!(
            out,
            "impl ::core::fmt::Debug for {path} {{ fn fmt(&self, f: &mut \
             ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{ f.write_str(\"{name}(..)\") }} }}"
        )?;
        for (index, oneof) in message.oneof_decl.iter().enumerate() {
            let real = message
                .field
                .iter()
                .any(|field| field.oneof_index == Some(index as i32) && !field.proto3_optional());
            if real {
                let oneof = camel(oneof.name());
                writeln!(
                    out,
                    "impl ::core::fmt::Debug for {inner}{oneof} {{ fn fmt(&self, f: &mut \
                     ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{ \
                     f.write_str(\"{oneof}(..)\") }} }}"
                )?;
            }
        }
        // Enumerations inside a quiet message lose their derived `Debug` with it.
        for enumeration in &message.enum_type {
            writeln!(
                out,
                "impl ::core::fmt::Debug for {inner}{} {{ fn fmt(&self, f: &mut \
                 ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{ \
                 f.write_str(self.as_str_name()) }} }}",
                enumeration.name()
            )?;
        }
    }
    for nested in &message.nested_type {
        write_message(
            out,
            package,
            &format!("{outer}{name}."),
            &inner,
            nested,
            plain,
        )?;
    }
    Ok(())
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
                .unwrap_or_default()
        })
        .collect()
}
