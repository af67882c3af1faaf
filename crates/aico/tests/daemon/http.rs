//! The API as any program on this machine reaches it: HTTP over TCP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

/// A daemon's address, and whose token is shown to it.
#[derive(Clone)]
pub(crate) struct Api {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    pub(crate) token: String,
}

/// A status and the JSON of the body; null when there is none.
pub(crate) type Answer = (u16, Value);

impl Api {
    /// From the address that the daemon prints and notes; nobody is signed in.
    pub(crate) fn at(page: &str) -> Self {
        let address = page.trim().trim_start_matches("http://");
        Self {
            address: address.trim_end_matches('/').to_owned(),
            token: String::new(),
        }
    }

    /// Signs in.
    pub(crate) fn sign_in(mut self, name: &str, password: &str) -> Self {
        let body = serde_json::json!({"name": name, "password": password});
        let (status, session) = self.call("POST", "/api/v1/sessions", Some(&body));
        assert_eq!(status, 201, "{session}");
        self.token = session["token"].as_str().unwrap().to_owned();
        self
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(body))
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let (_, status, body) = self.call_with(method, path, body, "");
        (status, body)
    }

    /// With more lines in the head; gives back that of the answer too.
    pub(crate) fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        more: &str,
    ) -> (String, u16, Value) {
        let mut stream = self.send(method, path, body, more);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        (head.to_owned(), status, body)
    }

    /// Asks, and does not wait for an answer.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        more: &str,
    ) -> TcpStream {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{more}",
            self.address,
            body.len()
        );
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        if !self.token.is_empty() {
            head.push_str(&format!("authorization: Bearer {}\r\n", self.token));
        }
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .unwrap();
        stream
    }
}
