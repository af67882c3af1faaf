//! Addresses of files: as much of a URL as a download needs, and nothing that could carry a
//! password along.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

/// Longest address; signed ones of storage services have some two thousand letters.
const LIMIT: usize = 16 << 10;

/// Why a text is no address of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No URL, or none that is absolute.
    #[error("it is no web address")]
    NotAUrl,
    /// `ftp`, `file`, ….
    #[error("it is neither https nor http")]
    Scheme,
    /// A name or password before the host.
    #[error("it holds a name or password")]
    UserInfo,
    /// Beyond the limit.
    #[error("it is too long")]
    TooLong,
}

/// An absolute address of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// In small letters; an IPv6 address without its brackets.
    host: String,
    port: u16,
    /// Path and query, beginning with a slash.
    path: String,
}

impl Url {
    /// Reads an absolute address.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > LIMIT {
            return Err(UrlError::TooLong);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::NotAUrl)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(UrlError::Scheme),
            None => return Err(UrlError::NotAUrl),
        };
        let authority = uri.authority().ok_or(UrlError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
            .to_ascii_lowercase();
        if host.is_empty() {
            return Err(UrlError::NotAUrl);
        }
        // A port that is none is not taken for a missing one.
        let named = authority.as_str().rsplit_once(']').map_or_else(
            || authority.as_str().contains(':'),
            |(_, rest)| rest.contains(':'),
        );
        let port = match (authority.port_u16(), named) {
            (Some(0), _) | (None, true) => return Err(UrlError::NotAUrl),
            (Some(port), _) => port,
            (None, false) if secure => 443,
            (None, false) => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            secure,
            host,
            port,
            path,
        })
    }

    /// Where a redirect from here leads.
    ///
    /// # Errors
    /// [`UrlError`]; addresses relative to a folder are not followed.
    pub fn redirected(&self, location: &str) -> Result<Self, UrlError> {
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{}{location}", self.origin()));
        }
        Self::parse(location)
    }

    /// The same path below another address.
    ///
    /// # Errors
    /// When the two do not make an address.
    pub fn below(&self, base: &Self) -> Result<Self, UrlError> {
        let prefix = base.path.trim_end_matches('/');
        Self::parse(&format!("{}{prefix}{}", base.origin(), self.path))
    }

    /// Whether both lie on one server, reached in one way.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Name or address of the server.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, when the host is one instead of a name.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The port, the usual one where none is named.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as `CONNECT` has them.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    /// As the header `Host` has it.
    #[must_use]
    pub fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.bracketed(),
            _ => self.endpoint(),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, host, port, path) in [
            (
                "https://Example.org/a/b?c=d",
                "example.org",
                443,
                "/a/b?c=d",
            ),
            ("http://nas.local:8080", "nas.local", 8080, "/"),
            ("https://[2001:db8::1]/x", "2001:db8::1", 443, "/x"),
            ("https://[::1]:9/x#part", "::1", 9, "/x"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path));
            assert_eq!(Url::parse(&url.to_string()).unwrap(), url, "{text}");
        }
        for (text, error) in [
            ("", UrlError::NotAUrl),
            ("/a", UrlError::NotAUrl),
            ("example.org/a", UrlError::NotAUrl),
            ("https:///a", UrlError::NotAUrl),
            ("https://example.org:0/", UrlError::NotAUrl),
            ("https://example.org:99999/", UrlError::NotAUrl),
            ("ftp://example.org/a", UrlError::Scheme),
            ("file://example.org/etc/passwd", UrlError::Scheme),
            ("https://ann:secret@example.org/", UrlError::UserInfo),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
        let long = format!("https://example.org/{}", "a".repeat(LIMIT));
        assert_eq!(Url::parse(&long), Err(UrlError::TooLong));
    }

    #[test]
    fn redirects_are_taken_from_where_they_come() {
        let from = Url::parse("https://example.org:8443/a/b").unwrap();
        let to = |location| from.redirected(location).map(|url| url.to_string());
        assert_eq!(to("/c").unwrap(), "https://example.org:8443/c");
        assert_eq!(to("//cdn.example/c").unwrap(), "https://cdn.example/c");
        assert_eq!(to("http://127.0.0.1/c").unwrap(), "http://127.0.0.1/c");
        assert!(to("c/d").is_err());
        assert!(to("javascript:alert(1)").is_err());
    }

    #[test]
    fn a_mirror_has_the_path_of_the_original_below_its_own() {
        let original = Url::parse("https://hub.example/o/r/resolve/1/m.gguf").unwrap();
        let mirror = Url::parse("http://nas.local:8080/hub/").unwrap();
        let found = original.below(&mirror).unwrap();
        assert_eq!(
            found.to_string(),
            "http://nas.local:8080/hub/o/r/resolve/1/m.gguf"
        );
        assert!(found.same_origin(&mirror));
        assert!(!found.same_origin(&original));
    }
}
