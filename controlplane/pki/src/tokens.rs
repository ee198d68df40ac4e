//! Service-account tokens: JWTs as upstream's TokenRequest makes them, signed with ES256.
//!
//! Must not know: whether an account, pod or secret still exists: that is the authenticator's to ask.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The claims of a bound service-account token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
    pub nbf: i64,
    pub sub: String,
}

/// What a token is bound to; it dies with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Bound {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    /// Seconds since the epoch, after which using the token is worth a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

/// The key that signs and verifies tokens.
pub struct TokenKey {
    signing: EncodingKey,
    verifying: DecodingKey,
    key_id: String,
    jwk: Value,
}

/// A new private key, PEM.
pub fn generate() -> anyhow::Result<String> {
    Ok(KeyPair::generate().context("generating the service-account key")?.serialize_pem())
}

/// The public half of a private key, PEM.
pub fn public_pem(private_pem: &str) -> anyhow::Result<String> {
    Ok(KeyPair::from_pem(private_pem).context("reading the service-account key")?.public_key_pem())
}

impl TokenKey {
    pub fn load(private_pem: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::from_pem(private_pem).context("reading the service-account key")?;
        let key_id = key_id(&pair);
        // an uncompressed P-256 point: 0x04, then x and y
        let [4, point @ ..] = pair.public_key_raw() else { anyhow::bail!("the service-account key is not P-256") };
        anyhow::ensure!(point.len() == 64, "the service-account key is not P-256");
        let (x, y) = point.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Ok(Self {
            signing: EncodingKey::from_ec_pem(private_pem.as_bytes()).context("reading the service-account key")?,
            verifying: DecodingKey::from_ec_components(&x, &y).context("reading the service-account key")?,
            jwk: json!({ "use": "sig", "kty": "EC", "kid": key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y }),
            key_id,
        })
    }

    pub fn sign(&self, claims: &Claims) -> anyhow::Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).context("signing a token")
    }

    /// The claims of a token that this key signed for `issuer` and at least one of `audiences`, and that is
    /// neither expired nor not yet valid.
    pub fn verify(&self, token: &str, issuer: &str, audiences: &[String]) -> anyhow::Result<Claims> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[issuer]);
        validation.set_audience(audiences);
        validation.validate_nbf = true;
        validation.leeway = 10;
        Ok(jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation)?.claims)
    }

    /// The JSON Web Key Set at `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk] })
    }
}

/// As upstream: the base64url SHA-256 of the public key's DER.
fn key_id(pair: &KeyPair) -> String {
    use sha2::Digest as _;
    URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(pair.subject_public_key_info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc";

    fn claims(expires_in: i64) -> Claims {
        let now = jiff::Timestamp::now().as_second();
        Claims {
            aud: vec![ISSUER.into()],
            exp: now + expires_in,
            iat: now,
            iss: ISSUER.into(),
            jti: "id".into(),
            kubernetes: Bound { namespace: "default".into(), ..Bound::default() },
            nbf: now,
            sub: "system:serviceaccount:default:default".into(),
        }
    }

    #[test]
    fn a_signed_token_verifies_only_for_its_issuer_audience_and_time() {
        let key = TokenKey::load(&generate().unwrap()).unwrap();
        let token = key.sign(&claims(60)).unwrap();
        assert_eq!(key.verify(&token, ISSUER, &[ISSUER.into()]).unwrap(), claims(60));
        assert!(key.verify(&token, "https://elsewhere", &[ISSUER.into()]).is_err());
        assert!(key.verify(&token, ISSUER, &["vault".into()]).is_err());
        let expired = key.sign(&claims(-60)).unwrap();
        assert!(key.verify(&expired, ISSUER, &[ISSUER.into()]).is_err());
    }

    #[test]
    fn another_key_does_not_verify() {
        let (one, two) = (TokenKey::load(&generate().unwrap()).unwrap(), TokenKey::load(&generate().unwrap()).unwrap());
        let token = one.sign(&claims(60)).unwrap();
        assert!(two.verify(&token, ISSUER, &[ISSUER.into()]).is_err());
    }
}
