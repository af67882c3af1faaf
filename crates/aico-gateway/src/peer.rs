//! Who is at the other end of a connection, as the accept loop found out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The other end.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Over TCP: anybody who reaches the port.
    Tcp {
        /// Their address.
        address: SocketAddr,
        /// Names under which this listener may be addressed.
        hosts: Arc<Hosts>,
    },
    /// Over the local socket; the operating system told that it is our own user.
    Local,
}

impl Peer {
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }

    /// What failed tries are counted for: an address, or the network of an IPv6 one, where one
    /// host has as many addresses as it likes. Nothing for the local socket.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Tcp { address, .. } => Some(match address.ip().to_canonical() {
                IpAddr::V6(ip) => {
                    let mut bytes = ip.octets();
                    bytes[8..].fill(0);
                    IpAddr::from(bytes)
                }
                ip @ IpAddr::V4(_) => ip,
            }),
        }
    }
}

/// The exact names of a listener, in lower case and with their port.
///
/// Names are compared whatever the bind address is: a check that runs on loopback only is the
/// hole through which DNS rebinding came to others.
#[derive(Debug)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// The names that a listener on `bound` has, and the configured ones.
    pub(crate) fn new(bound: SocketAddr, configured: &[String]) -> Self {
        let port = bound.port();
        let mut bare = vec![
            "127.0.0.1".to_owned(),
            "localhost".to_owned(),
            "[::1]".to_owned(),
        ];
        if !bound.ip().is_unspecified() && !bound.ip().is_loopback() {
            bare.push(match bound.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            });
        }
        let mut names = Vec::new();
        let mut add = |name: &str, port: u16| {
            let name = name.to_ascii_lowercase();
            // Clients leave the scheme's own port out.
            if port == 80 {
                names.push(name.clone());
            }
            names.push(format!("{name}:{port}"));
        };
        for name in &bare {
            add(name, port);
        }
        for name in configured {
            match name.rsplit_once(':') {
                Some((host, digits)) if !host.is_empty() && !digits.ends_with(']') => {
                    if let Ok(port) = digits.parse() {
                        add(host, port);
                    }
                }
                _ => add(name, port),
            }
        }
        Self(names)
    }

    pub(crate) fn allows(&self, host: &str) -> bool {
        self.0.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(bound: &str, configured: &[&str]) -> Hosts {
        let configured: Vec<_> = configured.iter().map(|&name| name.to_owned()).collect();
        Hosts::new(bound.parse().unwrap(), &configured)
    }

    #[test]
    fn only_exact_names_are_ours() {
        let hosts = hosts("127.0.0.1:8771", &["aico.home"]);
        for name in [
            "127.0.0.1:8771",
            "localhost:8771",
            "LOCALHOST:8771",
            "[::1]:8771",
            "aico.home:8771",
        ] {
            assert!(hosts.allows(name), "{name}");
        }
        for name in [
            "",
            "localhost",
            "127.0.0.1",
            "localhost:80",
            "localhost:08771",
            "localhost.:8771",
            "evil.localhost:8771",
            "localhost.evil.example:8771",
            "127.0.0.1.nip.io:8771",
            "127.1:8771",
            "2130706433:8771",
            "0.0.0.0:8771",
            "[::ffff:127.0.0.1]:8771",
            "[0:0:0:0:0:0:0:1]:8771",
            "192.168.1.5:8771",
            "aico.local:8771",
            "localhost:8771 ",
            "user@localhost:8771",
        ] {
            assert!(!hosts.allows(name), "{name}");
        }
    }

    #[test]
    fn a_bound_address_is_a_name_and_everything_else_stays_refused() {
        let lan = hosts("192.168.1.5:80", &["aico.home:8080"]);
        assert!(lan.allows("192.168.1.5") && lan.allows("192.168.1.5:80"));
        assert!(lan.allows("aico.home:8080") && !lan.allows("aico.home"));
        assert!(!lan.allows("192.168.1.6"));
        let everywhere = hosts("0.0.0.0:8771", &[]);
        assert!(everywhere.allows("localhost:8771"));
        assert!(!everywhere.allows("0.0.0.0:8771") && !everywhere.allows("10.0.0.1:8771"));
    }

    #[test]
    fn sources_are_hosts_or_networks() {
        let source = |address: &str| {
            let address = address.parse().unwrap();
            Peer::Tcp {
                address,
                hosts: Arc::new(Hosts(Vec::new())),
            }
            .source()
        };
        assert_eq!(source("[::ffff:10.0.0.1]:1"), source("10.0.0.1:2"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::2]:1"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_eq!(Peer::Local.source(), None);
    }
}
