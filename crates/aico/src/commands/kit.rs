//! `aico vault kit`: a page to print, for the day when the password or the machine is gone.

use std::io::Write as _;
use std::path::Path;

use aico_vault::Vault;
use zeroize::Zeroizing;

use super::{Context, keys, setup};
use crate::cli::PasswordFrom;
use crate::exit::Failure;
use crate::style;

/// Writes the page. With a way to the master password a new phrase is made and put on it.
pub(super) async fn write(
    context: &Context,
    path: &Path,
    new_phrase: Option<&PasswordFrom>,
) -> Result<(), Failure> {
    let mut all = keys::all(context).await?;
    let id =
        Vault::id_of(&context.places.data().join("home")).map_err(aico_access::HomeError::from)?;
    let mut file = setup::new_private_file(path)?;
    let words = match new_phrase {
        None => None,
        Some(from) => match keys::new_phrase(context, from).await {
            Ok(words) => Some(words),
            Err(failure) => {
                let _ = std::fs::remove_file(path);
                return Err(failure);
            }
        },
    };
    // A new phrase is of today. It reaches the page even when nobody can say so any more.
    if words.is_some()
        && let Ok(now) = keys::all(context).await
    {
        all = now;
    }
    let page = Zeroizing::new(page(&Facts {
        data: &context.places.data().display().to_string(),
        program: &context.places.program(),
        vault: &hex(&id),
        opens: &keys::lines(&all),
        words: words.as_deref().map(Vec::as_slice),
        today: &jiff::Zoned::now().date().to_string(),
    }));
    let written = file
        .write_all(page.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| setup::sync_folder_of(path));
    if let Err(error) = written {
        // Half of a page is of no use, and half of a phrase is a secret all the same.
        let _ = std::fs::remove_file(path);
        if let Some(words) = &words {
            // The old phrase is dead: the new one must reach the person now or never.
            style::warning("the page can't be written; this is the new recovery phrase:");
            style::note(&words.join(" "));
        }
        return Err(Failure::of_folder(
            format!("{} can't be written.", path.display()),
            &error,
        ));
    }
    style::note(&format!("The page is in {}. Print it.", path.display()));
    if words.is_some() {
        style::warning("the recovery phrase is in that file: delete it once it is printed");
        style::note(
            "The phrase before this one opens nothing here any more. Backups and copies of",
        );
        style::note("the data folder made before still open with it.");
    } else {
        style::note("There is no secret in it: write the recovery phrase on the paper by hand.");
    }
    Ok(())
}

struct Facts<'a> {
    data: &'a str,
    /// How the program is called on this computer.
    program: &'a str,
    vault: &'a str,
    opens: &'a [String],
    words: Option<&'a [String]>,
    today: &'a str,
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Self-contained: no script, nothing that is loaded from elsewhere.
fn page(facts: &Facts<'_>) -> String {
    let words: String = (0..12)
        .map(|at| {
            let word = facts.words.and_then(|words| words.get(at));
            format!("<li>{}</li>", word.map_or("", |word| word.as_str()))
        })
        .collect();
    let opens: String = facts
        .opens
        .iter()
        .map(|line| format!("<li>{}</li>", escaped(line)))
        .collect();
    let (data, vault, today) = (escaped(facts.data), facts.vault, facts.today);
    let program = escaped(facts.program);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>AICO emergency kit</title>
<style>
body {{ font: 11pt/1.5 serif; max-width: 42em; margin: 2em auto; padding: 0 1em; }}
code {{ font-size: 10pt; overflow-wrap: anywhere; }}
.words {{ columns: 3; font: 13pt/2.2 monospace; border: 1px solid; padding: 1em 1em 1em 3em; }}
.words li {{ border-bottom: 1px dotted; break-inside: avoid; }}
dt {{ font-weight: bold; }}
@page {{ margin: 18mm; }}
</style></head><body>
<h1>AICO emergency kit</h1>
<p>For the day when the master password is forgotten or the computer is gone. Written on {today}.</p>
<h2>Recovery phrase</h2>
<ol class="words">{words}</ol>
<p>Twelve words, in this order. Whoever has them and the data, or a backup of it, can read
everything of everybody whose data is not sealed.</p>
<h2>What is where</h2>
<dl>
<dt>Data folder</dt><dd><code>{data}</code></dd>
<dt>Vault</dt><dd><code>{vault}</code></dd>
<dt>Backups</dt><dd>__________________________________________________</dd>
<dt>It opens with</dt><dd><ul>{opens}</ul></dd>
<dt>Written by</dt><dd>AICO {version}</dd>
</dl>
<h2>The password is forgotten</h2>
<ol>
<li>On the computer with the data folder, type: <code>{program} vault recover</code></li>
<li>Type the twelve words, then a new master password.</li>
<li>Start AICO: <code>{program} serve</code></li>
</ol>
<h2>The computer is gone, and there is a backup that AICO made</h2>
<ol>
<li>Install AICO on another computer. A newer version reads the data of an older one.</li>
<li>Type: <code>aico restore FILE.aicobackup</code></li>
<li>Type the twelve words, or the master password. Those of when the backup was made count.</li>
<li>It starts with the master password of then. Is that one forgotten:
<code>aico vault recover</code></li>
<li>Start AICO: <code>aico serve</code></li>
</ol>
<h2>The computer is gone, and there is a copy of the data folder</h2>
<ol>
<li>Install AICO on another computer.</li>
<li>Put the whole data folder where you want it, readable by you alone
(<code>chmod -R go-rwx FOLDER</code>).</li>
<li>Type: <code>aico --data FOLDER vault recover</code>, then the twelve words and a new master
password.</li>
<li>Start AICO: <code>aico --data FOLDER serve</code></li>
</ol>
<h2>Where to keep this page</h2>
<ul>
<li>On paper, in a place that burns or floods separately from the computer; a second copy with
somebody whom you trust with everything in it.</li>
<li>Not beside the backups, not as a photograph, not in a mail or a cloud.</li>
<li>Don't write the master password on it: the phrase replaces it.</li>
<li>Lost the page, or somebody saw it? <code>{program} vault phrase</code> makes a new phrase. The old
one then opens this data folder no longer; backups made before still open with it.</li>
</ul>
</body></html>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_twelve_places_and_lets_nothing_in() {
        let facts = Facts {
            data: "/home/<script>\"&",
            program: "aico --data '/home/<script>\"&'",
            vault: "00ff",
            opens: &["a <b>".to_owned()],
            words: None,
            today: "2026-01-31",
        };
        let empty = page(&facts);
        assert_eq!(empty.matches("<li></li>").count(), 12);
        let backup = empty.find("<code>aico restore FILE.aicobackup</code>");
        let folder = empty.find("<code>aico --data FOLDER vault recover</code>");
        assert!(backup.is_some() && backup < folder);
        let recover = "<code>aico --data '/home/&lt;script&gt;&quot;&amp;' vault recover</code>";
        assert!(empty.contains(recover) && !empty.contains("<script>"));
        assert!(empty.contains("/home/&lt;script&gt;&quot;&amp;") && empty.contains("a &lt;b&gt;"));
        let words: Vec<String> = (1..=12).map(|n| format!("word{n}")).collect();
        let full = page(&Facts {
            words: Some(&words),
            ..facts
        });
        assert!(
            words
                .iter()
                .all(|word| full.contains(&format!("<li>{word}</li>")))
        );
    }
}
