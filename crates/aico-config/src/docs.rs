//! The table of keys for `docs/configuration.md`.

use crate::schema::KEYS;

/// Line before the table in the document.
pub const BEGIN: &str =
    "<!-- The table is made from the code: AICO_UPDATE_DOCS=1 cargo test -p aico-config -->";
/// Line after the table in the document.
pub const END: &str = "<!-- end of the table -->";

/// All keys as a Markdown table.
#[must_use]
pub fn markdown_table() -> String {
    let mut out = String::from("| key | takes | default | what it does |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = if key.default.is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", key.default)
        };
        out.push_str(&format!(
            "| `{}` | {} | {default} | {} |\n",
            key.shown(),
            key.kind.expects(),
            key.description
        ));
    }
    out
}
