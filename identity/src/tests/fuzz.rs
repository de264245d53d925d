//! Hostile tokens: every client of the port may present one.

use tests_fuzz::Target;

use super::*;
use crate::{review::Caller, validator::ServiceAccount};

#[test]
fn fuzz_token() {
    let (dir, signer, stranger) = (tempfile::tempdir().unwrap(), Signer::new("one"), Signer::new("one"));
    std::fs::write(
        dir.path().join("jwks.json"),
        json!({ "keys": [signer.jwk] }).to_string(),
    )
    .unwrap();
    let (_reload, jwks) = token::Reload::new(dir.path().join("jwks.json"), Duration::ZERO);
    let validator = Validator::Jwks(jwks);
    let api = json!({"sub": "system:serviceaccount:emoji:api"});
    let none = format!(
        "{}.{}.",
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims(api.clone()).to_string()),
    );
    let target = Target {
        name: "fuzz_token",
        seeds: vec![
            signer.good_token(),
            // By the same key, for others or no longer.
            signer.token(claims(
                json!({"aud": ["other"], "sub": "system:serviceaccount:emoji:api"}),
            )),
            signer.token(claims(json!({"exp": 1, "sub": "system:serviceaccount:emoji:api"}))),
            stranger.token(claims(api)),
            none.into_bytes(),
        ],
        words: &[".", "eyJhbGciOiJub25lIn0.", "eyJ", "=", "-_", "+/", "e30"],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let web = ServiceAccount {
        namespace: "emoji".to_owned(),
        name: "web".to_owned(),
    };
    target.run(|bytes| {
        if let Ok(account) = runtime.block_on(validator.validate(bytes, &Caller::default())) {
            assert_eq!(account, web, "a token that was never signed");
        }
    });
}
