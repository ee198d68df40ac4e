//! The credentials of a pull, as CRI brings them.
//!
//! Must not know: registries.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_cri::v1;
use pintle_images::Auth;

use crate::error::Error;

/// A token for the registry counts before an account; an account may be written as base64 of `user:password`, as in
/// Docker's files. `None` where nothing is given.
pub fn of(given: Option<v1::AuthConfig>) -> Result<Option<Auth>, Error> {
    let Some(given) = given else { return Ok(None) };
    if !given.registry_token.is_empty() {
        return Ok(Some(Auth::Token(given.registry_token)));
    }
    if !given.username.is_empty() {
        return Ok(Some(Auth::Basic { username: given.username, password: given.password }));
    }
    if !given.identity_token.is_empty() {
        return Ok(Some(Auth::Token(given.identity_token)));
    }
    if given.auth.is_empty() {
        return Ok(None);
    }
    let broken = || Error::Invalid("auth.auth is not base64 of user:password".into());
    let text = String::from_utf8(STANDARD.decode(&given.auth).map_err(|_| broken())?).map_err(|_| broken())?;
    let (username, password) = text.split_once(':').ok_or_else(broken)?;
    let password = password.trim_matches('\0').to_owned();
    Ok(Some(Auth::Basic { username: username.to_owned(), password }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(given: v1::AuthConfig) -> String {
        of(Some(given)).map_or_else(|error| error.to_string(), |auth| format!("{auth:?}"))
    }

    #[test]
    fn an_account_comes_plain_or_encoded() {
        let plain = v1::AuthConfig { username: "ann".into(), password: "secret".into(), ..Default::default() };
        assert_eq!(found(plain), "Some(Basic(\"ann\", …))");
        let encoded = v1::AuthConfig { auth: STANDARD.encode("ann:secret"), ..Default::default() };
        assert_eq!(of(Some(encoded)).unwrap(), Some(Auth::Basic { username: "ann".into(), password: "secret".into() }));
        assert_eq!(
            found(v1::AuthConfig { auth: "?".into(), ..Default::default() }),
            "auth.auth is not base64 of user:password"
        );
        assert_eq!(found(v1::AuthConfig::default()), "None");
    }
}
