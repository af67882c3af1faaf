//! Tokens: EdDSA, the algorithm pinned, bound to this installation and to a session's row.
//!
//! The signature only keeps strangers from reaching the session table; whether a token still
//! counts is decided by the row (see `sessions.rs`). The signing key is random and sealed, not
//! derived, so that a restored copy of the data can't mint tokens.

use aico_contracts::ids::{PersonId, SessionId};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

const AUDIENCE: &str = "aico";
/// Ours have about 330 bytes; more is not worth a base64 decode.
const LONGEST: usize = 1024;

/// What a token says. Unknown and doubled members are refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: PersonId,
    sid: SessionId,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(rename = "use")]
    usage: Usage,
}

/// Other kinds come with programs that act for a person; none is taken for another.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Usage {
    Access,
}

/// The token is not one of ours, or not now. Deliberately without a reason for the sender.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// A fresh signing key (PKCS #8), to be sealed.
pub(crate) fn new_signing_key() -> Result<Zeroizing<Vec<u8>>, aws_lc_rs::error::Unspecified> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    issuer: String,
    header: Header,
    /// The only first segment that is ever accepted: no `kid`, `jku`, `jwk`, no other `alg`.
    header_segment: String,
}

impl Tokens {
    pub(crate) fn new(instance: Uuid, pkcs8: &[u8]) -> Result<Self, Invalid> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| Invalid)?;
        let issuer = format!("aico:{instance}");
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&issuer]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        let mut tokens = Self {
            encoding: EncodingKey::from_ed_der(pkcs8),
            decoding: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            validation,
            issuer,
            header: Header::new(Algorithm::EdDSA),
            header_segment: String::new(),
        };
        let now = Timestamp::now();
        let sample = tokens.issue(PersonId::new(), SessionId::new(), now, now)?;
        sample
            .split('.')
            .next()
            .unwrap_or_default()
            .clone_into(&mut tokens.header_segment);
        Ok(tokens)
    }

    pub(crate) fn issue(
        &self,
        person: PersonId,
        session: SessionId,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Zeroizing<String>, Invalid> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: person,
            sid: session,
            iat: now.as_second(),
            nbf: now.as_second(),
            exp: expires.as_second(),
            usage: Usage::Access,
        };
        jsonwebtoken::encode(&self.header, &claims, &self.encoding)
            .map(Zeroizing::new)
            .map_err(|_| Invalid)
    }

    /// Whose token this is, when signature, installation and times are right.
    pub(crate) fn verify(&self, token: &str) -> Result<(PersonId, SessionId), Invalid> {
        if token.len() > LONGEST || token.split('.').next() != Some(&self.header_segment) {
            return Err(Invalid);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| Invalid)?
            .claims;
        // `Usage` has one value today: parsing was the check.
        let Usage::Access = claims.usage;
        Ok((claims.sub, claims.sid))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn tokens(instance: Uuid) -> Tokens {
        Tokens::new(instance, &new_signing_key().unwrap()).unwrap()
    }

    fn issue(tokens: &Tokens, from: i64, to: i64) -> String {
        let now = Timestamp::now().as_second();
        let at = |offset| Timestamp::from_second(now + offset).unwrap();
        let token = tokens
            .issue(PersonId::new(), SessionId::new(), at(from), at(to))
            .unwrap();
        token.to_string()
    }

    fn with_header(token: &str, header: &str) -> String {
        let rest = token.split_once('.').unwrap().1;
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
    }

    fn signed(tokens: &Tokens, claims: &serde_json::Value) -> String {
        jsonwebtoken::encode(&tokens.header, claims, &tokens.encoding).unwrap()
    }

    #[test]
    fn a_token_of_ours_is_taken() {
        let tokens = tokens(Uuid::now_v7());
        let (person, session) = (PersonId::new(), SessionId::new());
        let now = Timestamp::now();
        let later = now + jiff::SignedDuration::from_hours(1);
        let token = tokens.issue(person, session, now, later).unwrap();
        assert!(tokens.verify(&token) == Ok((person, session)));
    }

    #[test]
    fn time_and_origin_are_checked() {
        let instance = Uuid::now_v7();
        let ours = tokens(instance);
        assert!(ours.verify(&issue(&ours, 0, 60)).is_ok());
        for (name, token) in [
            ("expired", issue(&ours, -120, -60)),
            ("not yet valid", issue(&ours, 60, 120)),
            ("another key", issue(&tokens(instance), 0, 60)),
            ("empty", String::new()),
            ("no dots", "abc".to_owned()),
            ("huge", "a.".repeat(4096)),
        ] {
            assert!(ours.verify(&token).is_err(), "{name}");
        }
        let key = new_signing_key().unwrap();
        let here = Tokens::new(instance, &key).unwrap();
        let there = Tokens::new(Uuid::now_v7(), &key).unwrap();
        assert!(
            here.verify(&issue(&there, 0, 60)).is_err(),
            "another installation's"
        );
    }

    #[test]
    fn the_header_is_pinned() {
        let ours = tokens(Uuid::now_v7());
        let token = issue(&ours, 0, 60);
        for header in [
            r#"{"typ":"JWT","alg":"none"}"#,
            r#"{"typ":"JWT","alg":"HS256"}"#,
            r#"{"typ":"JWT","alg":"EdDSA","kid":"../../x"}"#,
            r#"{"typ":"JWT","alg":"EdDSA","jku":"http://127.0.0.1/k"}"#,
            r#"{"typ":"JWT","alg":"EdDSA","jwk":{"kty":"OKP"}}"#,
            r#"{"alg":"EdDSA","typ":"JWT"}"#,
        ] {
            assert!(
                ours.verify(&with_header(&token, header)).is_err(),
                "{header}"
            );
        }
        let unsigned = token.rsplit_once('.').unwrap().0;
        assert!(ours.verify(&format!("{unsigned}.")).is_err());
    }

    #[test]
    fn claims_that_we_did_not_write_are_refused_even_if_signed() {
        let ours = tokens(Uuid::now_v7());
        let now = Timestamp::now().as_second();
        let good = serde_json::json!({
            "iss": ours.issuer, "aud": "aico", "sub": PersonId::new(), "sid": SessionId::new(),
            "iat": now, "nbf": now, "exp": now + 60, "use": "access",
        });
        assert!(ours.verify(&signed(&ours, &good)).is_ok());
        for (member, value) in [
            ("aud", serde_json::json!("other")),
            ("iss", serde_json::json!("aico:other")),
            ("use", serde_json::json!("refresh")),
            ("sub", serde_json::json!("me")),
            ("admin", serde_json::json!(true)),
        ] {
            let mut claims = good.clone();
            claims[member] = value;
            assert!(ours.verify(&signed(&ours, &claims)).is_err(), "{member}");
        }
    }
}
