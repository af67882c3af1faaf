//! Names of models, as Ollama and the registries have them: `[host/][namespace/]model[:tag]`.

use aico_contracts::v1::Fault;

use crate::pull::url::Url;

/// Where a name without a host comes from.
pub(super) const REGISTRY: &str = "registry.ollama.ai";
/// Others that everybody may name.
const KNOWN: [&str; 3] = [REGISTRY, "hf.co", "huggingface.co"];
const NAMESPACE: &str = "library";
const TAG: &str = "latest";
/// Longest part of a name, and longest host.
const PART: usize = 80;
const HOST: usize = 200;

/// A name that is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) host: String,
    pub(super) namespace: String,
    pub(super) model: String,
    pub(super) tag: String,
}

impl Name {
    /// Reads a name; nothing that is none comes to Ollama.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = || {
            Fault::invalid("This is no name of a model").with_what_to_do(
                "A name is made of letters, digits and - _ . like qwen3:8b, or with who made it \
                 before it: somebody/model:tag.",
            )
        };
        let text = text.trim();
        let slash = text.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match text[slash..].find(':') {
            Some(at) => (&text[..slash + at], &text[slash + at + 1..]),
            None => (text, TAG),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (host, namespace, model) = match parts.as_slice() {
            [model] => (REGISTRY, NAMESPACE, *model),
            [namespace, model] => (REGISTRY, *namespace, *model),
            [host, namespace, model] => (*host, *namespace, *model),
            _ => return Err(wrong()),
        };
        if ![namespace, model, tag].into_iter().all(is_part) || !is_host(host) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// As Ollama lists it.
    pub(super) fn whole(&self) -> String {
        let Self {
            host,
            namespace,
            model,
            tag,
        } = self;
        match (host == REGISTRY, namespace == NAMESPACE) {
            (true, true) => format!("{model}:{tag}"),
            (true, false) => format!("{namespace}/{model}:{tag}"),
            _ => format!("{host}/{namespace}/{model}:{tag}"),
        }
    }

    /// Whether it may be downloaded from where it names: the registries that everybody knows, and
    /// the one that the owner named (`own`). Others could be anything in the home's network.
    pub(super) fn may_come(&self, own: Option<&Url>) -> Result<(), Fault> {
        if self.tag == "cloud" || self.tag.ends_with("-cloud") {
            return Err(Fault::new(
                "engine-elsewhere",
                "This model runs on a server of Ollama's makers",
            )
            .with_detail("What you ask it would leave this machine. Nothing was fetched.")
            .with_what_to_do("Choose a model that runs here."));
        }
        if KNOWN.contains(&self.host.as_str()) || self.is_own(own) {
            return Ok(());
        }
        Err(Fault::new(
            "address-refused",
            "Models are not fetched from this server",
        )
        .with_detail(format!("The name begins with {}.", self.host))
        .with_what_to_do(
            "If it is a registry of your own, name it as ollama.registry in the configuration.",
        ))
    }

    /// Whether it comes from the registry that the owner named.
    pub(super) fn is_own(&self, own: Option<&Url>) -> bool {
        own.is_some_and(|own| own.authority() == self.host)
    }

    /// The address of a part of it: `manifests/tag`, `blobs/digest`.
    pub(super) fn url(&self, own: Option<&Url>, what: &str) -> Result<Url, Fault> {
        let scheme = match own {
            Some(own) if self.is_own(Some(own)) && !own.secure() => "http",
            _ => "https",
        };
        let text = format!(
            "{scheme}://{}/v2/{}/{}/{what}",
            self.host, self.namespace, self.model
        );
        Url::parse(&text).map_err(|_| Fault::invalid("This is no name of a model"))
    }
}

fn is_part(text: &str) -> bool {
    let inside = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let first = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.len() <= PART && text.starts_with(first) && text.chars().all(inside)
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "1"));
    let inside = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
    let first = |letter: char| letter.is_ascii_alphanumeric();
    text.len() <= HOST
        && name.starts_with(first)
        && name.chars().all(inside)
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_whole() {
        for (text, whole) in [
            ("qwen3", "qwen3:latest"),
            (" qwen3:8b ", "qwen3:8b"),
            ("library/qwen3:8b", "qwen3:8b"),
            ("registry.ollama.ai/library/qwen3", "qwen3:latest"),
            ("ann/Aria:v1", "ann/Aria:v1"),
            (
                "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M",
                "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M",
            ),
            ("localhost:5000/ns/tiny", "localhost:5000/ns/tiny:latest"),
        ] {
            assert_eq!(Name::parse(text).unwrap().whole(), whole, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            " ",
            ":8b",
            "qwen3:",
            "../x",
            "a/../b",
            "a b",
            "http://host/a/b",
            "a/b/c/d",
            "x@sha256:00",
            "host:0/a/b",
            "ho st/a/b",
            "a:b:c",
            "ä",
            "a\nb",
            &"x".repeat(81),
        ] {
            let fault = Name::parse(text).unwrap_err();
            assert_eq!(fault.code, "invalid", "{text}");
        }
    }

    #[test]
    fn names_lead_to_known_registries_only() {
        let own = Url::parse("http://localhost:5000").unwrap();
        let may = |text: &str, own| Name::parse(text).unwrap().may_come(own);
        assert!(may("qwen3", None).is_ok());
        assert!(may("hf.co/a/b", None).is_ok());
        assert!(may("localhost:5000/a/b", Some(&own)).is_ok());
        for (text, code) in [
            ("localhost:5000/a/b", "address-refused"),
            ("192.168.1.1/a/b", "address-refused"),
            ("169.254.169.254/latest/meta", "address-refused"),
            ("qwen3:480b-cloud", "engine-elsewhere"),
        ] {
            assert_eq!(may(text, None).unwrap_err().code, code, "{text}");
        }
        assert!(may("localhost:5001/a/b", Some(&own)).is_err());
        let name = Name::parse("localhost:5000/a/b").unwrap();
        let url = name.url(Some(&own), "manifests/latest").unwrap();
        assert!(!url.secure() && url.path() == "/v2/a/b/manifests/latest");
    }
}
