use std::{fs, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, crypto::sign, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::settings::Secret;

const NOW: i64 = 1_800_000_000;
const SECRET: &str = "a secret of no less than thirty-two bytes";
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// Before the key itself, where one of RSA stands in an envelope of PKCS#8.
const ENVELOPE: usize = 26;

struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    pair: Option<KeyPair>,
}

static HMAC: LazyLock<Signer> = LazyLock::new(|| hmac(SECRET.as_bytes()));
static RSA: LazyLock<Signer> = LazyLock::new(rsa);
static EC: LazyLock<Signer> = LazyLock::new(ec);

fn hmac(secret: &[u8]) -> Signer {
    Signer { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret), pair: None }
}

fn rsa() -> Signer {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let key = EncodingKey::from_rsa_der(&pair.serialized_der()[ENVELOPE..]);
    Signer { algorithm: Algorithm::RS256, key, pair: Some(pair) }
}

fn ec() -> Signer {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let key = EncodingKey::from_ec_der(pair.serialized_der());
    Signer { algorithm: Algorithm::ES256, key, pair: Some(pair) }
}

impl Signer {
    fn jwk(&self, kid: &str) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk
    }

    fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT"})
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&self.header(), claims)
    }

    fn named(&self, kid: &str) -> String {
        let mut header = self.header();
        header["kid"] = json!(kid);
        self.signed(&header, &claims())
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        self.over(&header.to_string(), &claims.to_string())
    }

    fn over(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

fn claims() -> Value {
    json!({"service_name": "orders", "sub": "someone", "exp": NOW + 60})
}

/// The claims with one of them changed.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

struct File(TempDir);

impl File {
    fn new(keys: &[Value]) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(&json!({ "keys": keys }).to_string());
        file
    }

    fn write(&self, content: &str) {
        fs::write(self.path(), content).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("jwks.json")
    }

    fn settings(&self) -> Jwt {
        Jwt { keys: Some(self.path()), ..Jwt::default() }
    }

    async fn refused(&self, content: &str) -> String {
        self.write(content);
        chain(&Keys::load(self.settings()).await.err().expect("it is refused"))
    }
}

/// The secret, and two public keys with names.
async fn all() -> Keys {
    let file = File::new(&[RSA.jwk("rsa"), EC.jwk("ec")]);
    Keys::load(Jwt { secret: Some(Secret::new(SECRET)), ..file.settings() }).await.unwrap()
}

fn believed(keys: &Keys, token: &str) -> bool {
    keys.verify(token, at(NOW)).is_ok()
}

#[track_caller]
fn is_refused(keys: &Keys, token: &str, reason: &str) {
    let refused = keys.verify(token, at(NOW)).expect_err(reason);
    assert!(format!("{refused:?}").starts_with(reason), "{reason} is expected, and it was {refused:?}");
}

#[tokio::test]
async fn a_token_of_each_kind_is_believed() {
    let keys = all().await;
    assert!(!keys.is_empty());
    let expected =
        Claims { service_name: "orders".into(), subject: Some("someone".into()), expires_at: at(NOW + 60) };
    for token in [
        HMAC.token(&claims()),
        HMAC.named("a secret has no name"),
        RSA.token(&claims()),
        RSA.named("rsa"),
        EC.token(&claims()),
        EC.named("ec"),
        EC.token(&with("whatever", json!({"a": [1, null]}))),
        // Nobody asked for these.
        EC.token(&with("aud", json!("others"))),
        EC.token(&with("aud", json!(7))),
        EC.token(&with("iss", json!(["others"]))),
    ] {
        assert_eq!(keys.verify(&token, at(NOW)).unwrap(), expected);
    }
    let anonymous = keys.verify(&EC.token(&without("sub")), at(NOW)).unwrap();
    assert_eq!(anonymous.subject, None);
}

#[tokio::test]
async fn what_is_not_signed_by_a_known_key_is_refused() {
    let keys = all().await;
    let payload = claims();
    for (token, reason) in [
        (hmac(b"another secret of no less than thirty-two bytes").token(&payload), "Token"),
        (hmac(b"").token(&payload), "Token"),
        (rsa().token(&payload), "Token"),
        (ec().token(&payload), "Token"),
        (rsa().named("rsa"), "Token"),
        (RSA.named("unknown"), "NoKey"),
        (RSA.named("ec"), "NoKey"),
        (EC.named("rsa"), "NoKey"),
        (EC.named(""), "NoKey"),
        // The algorithm is the key's, whatever the header says.
        (RSA.signed(&json!({"alg": "RS384"}), &payload), "NoKey"),
        (RSA.signed(&json!({"alg": "PS256"}), &payload), "NoKey"),
        (RSA.signed(&json!({"alg": "ES256"}), &payload), "Token"),
        (EC.signed(&json!({"alg": "RS256"}), &payload), "Token"),
        (EC.signed(&json!({"alg": "HS256"}), &payload), "Token"),
        (HMAC.signed(&json!({"alg": "HS512"}), &payload), "NoKey"),
        (HMAC.signed(&json!({"alg": "EdDSA"}), &payload), "NoKey"),
        (HMAC.signed(&json!({"alg": "HS256", "crit": ["exp"], "exp": 1}), &payload), "Critical"),
        (HMAC.signed(&json!({"alg": "hs256"}), &payload), "Header"),
        (HMAC.signed(&json!({"alg": ["HS256"]}), &payload), "Header"),
        (HMAC.signed(&json!({}), &payload), "Header"),
        (HMAC.over(r#"{"alg":"HS256","alg":"none"}"#, &payload.to_string()), "Header"),
        (HMAC.over("", &payload.to_string()), "Header"),
        (HMAC.over("[]", &payload.to_string()), "Header"),
    ] {
        is_refused(&keys, &token, reason);
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret_to_sign_with() {
    let public = File::new(&[RSA.jwk("rsa"), EC.jwk("ec")]);
    let keys = Keys::load(public.settings()).await.unwrap();
    for pair in [&RSA.pair, &EC.pair] {
        use rcgen::PublicKeyData as _;
        let pair = pair.as_ref().unwrap();
        let pem = pair.public_key_pem();
        for bytes in
            [pem.as_bytes(), pem.trim().as_bytes(), &pair.subject_public_key_info(), pair.der_bytes()]
        {
            let forger = hmac(bytes);
            for token in [forger.token(&claims()), forger.named("rsa"), forger.named("ec")] {
                is_refused(&keys, &token, "NoKey");
                assert!(!believed(&all().await, &token));
            }
            for alg in ["RS256", "ES256"] {
                is_refused(
                    &keys,
                    &forger.signed(&json!({"alg": alg, "kid": "rsa"}), &claims()),
                    if alg == "RS256" { "Token" } else { "NoKey" },
                );
            }
        }
    }
    assert!(believed(&keys, &RSA.token(&claims())));
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused_however_it_is_spelt() {
    let keys = all().await;
    for alg in ["none", "None", "NONE", "nOnE", "", "null", " none"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
        let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
        let signature = HMAC.token(&claims()).rsplit('.').next().unwrap().to_owned();
        for end in ["", ".", "..", &format!(".{signature}"), ".AA"] {
            is_refused(&keys, &format!("{header}.{payload}{end}"), "Header");
        }
    }
    for signer in [&HMAC, &RSA, &EC] {
        let token = signer.token(&claims());
        let unsigned = &token[..=token.rfind('.').unwrap()];
        is_refused(&keys, unsigned, "Token");
        is_refused(&keys, unsigned.trim_end_matches('.'), "Header");
    }
}

#[tokio::test]
async fn no_part_of_a_token_can_be_cut_off_or_altered() {
    let keys = all().await;
    for token in [HMAC.named("x"), RSA.named("rsa"), EC.named("ec")] {
        assert!(believed(&keys, &token));
        for end in 0..token.len() {
            assert!(!believed(&keys, &token[..end]), "{}", &token[..end]);
            let mut altered = token.clone().into_bytes();
            altered[end] = if altered[end] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(!believed(&keys, &altered), "{altered}");
        }
        for odd in [
            format!("{token}="),
            format!("{token}."),
            format!("{token}.x"),
            format!(" {token}"),
            format!("{token}\n"),
        ] {
            assert!(!believed(&keys, &odd), "{odd:?}");
        }
    }
    for odd in ["", ".", "..", "...", "a.b.c", "é.é.é", "\0.\0.\0", "e30.e30.", "e30.e30.e30", "Bearer x"]
    {
        assert!(!believed(&keys, odd), "{odd:?}");
    }
}

#[tokio::test]
async fn a_token_has_its_time_and_the_clocks_may_differ_a_little() {
    let keys = all().await;
    let (exp, nbf) = (NOW + 60, NOW - 60);
    let mut claims = with("nbf", json!(nbf));
    for (fraction, offset) in [(false, 0), (true, 1)] {
        if fraction {
            claims["exp"] = format!("{exp}.5").parse().unwrap();
        }
        let token = HMAC.token(&claims);
        for (now, reason) in [
            (nbf - 6, Some("NotYet")),
            (nbf - 5, None),
            (NOW, None),
            (exp + 4, None),
            (exp + 5 + offset, Some("Expired")),
            (exp + 1_000_000, Some("Expired")),
        ] {
            let judged = keys.verify(&token, at(now));
            assert_eq!(
                judged.as_ref().err().map(|refused| format!("{refused:?}")).as_deref(),
                reason,
                "{now}"
            );
        }
        let refused = keys.verify(&token, DateTime::<Utc>::MAX_UTC).unwrap_err();
        assert!(matches!(refused, Refused::Expired));
        assert!(matches!(keys.verify(&token, DateTime::<Utc>::MIN_UTC).unwrap_err(), Refused::NotYet));
    }
}

#[tokio::test]
async fn claims_that_say_nothing_or_nonsense_are_refused() {
    let keys = all().await;
    for (claims, reason) in [
        (without("exp"), "NoExpiry"),
        (with("exp", json!(null)), "NoExpiry"),
        (with("exp", json!("1800000060")), "Token"),
        (with("exp", json!([1_800_000_060])), "Token"),
        (with("exp", json!(true)), "Token"),
        (with("exp", json!(i64::MAX)), "NoTime"),
        (with("exp", json!(u64::MAX)), "NoTime"),
        (with("exp", json!(1e300)), "NoTime"),
        (with("exp", json!(0)), "Expired"),
        (with("exp", json!(-1)), "Expired"),
        (with("exp", json!(-0.5)), "NoTime"),
        (with("exp", json!(i64::MIN)), "NoTime"),
        (with("nbf", json!("soon")), "Token"),
        (with("nbf", json!(NOW + 6)), "NotYet"),
        (with("nbf", json!(i64::MAX)), "NoTime"),
        (without("service_name"), "NoService"),
        (with("service_name", json!(null)), "NoService"),
        (with("service_name", json!("")), "NoService"),
        (with("service_name", json!(" ")), "NoService"),
        (with("service_name", json!("or\0ders")), "NoService"),
        (with("service_name", json!("x".repeat(256))), "NoService"),
        (with("service_name", json!(["orders"])), "Token"),
        (with("service_name", json!({"$ne": 1})), "Token"),
        (json!([]), "Token"),
        (json!(null), "Token"),
        (json!("orders"), "Token"),
        (with("padding", json!("x".repeat(9000))), "Huge"),
    ] {
        is_refused(&keys, &HMAC.token(&claims), reason);
    }
    let header = HMAC.header().to_string();
    for (claims, reason) in [
        ("", "Token"),
        ("{", "Token"),
        (r#"{"service_name":"a","exp":1e999}"#, "Token"),
        (r#"{"service_name":"a","exp":1800000060,"exp":9}"#, "Token"),
        (r#"{"service_name":"orders","service_name":"admin","exp":1800000060}"#, "Token"),
    ] {
        is_refused(&keys, &HMAC.over(&header, claims), reason);
    }
    is_refused(&keys, &"x".repeat(100_000), "Huge");
    is_refused(&keys, &".".repeat(8000), "Header");
    let deep = format!(r#"{{"exp":1800000060,"aud":{}{}}}"#, "[".repeat(2000), "]".repeat(2000));
    is_refused(&keys, &HMAC.over(&header, &deep), "Token");
}

#[tokio::test]
async fn audience_and_issuer_must_be_ours_where_they_are_set() {
    let set = |audience: Option<&str>, issuer: Option<&str>| Jwt {
        secret: Some(Secret::new(SECRET)),
        audience: audience.map(str::to_owned),
        issuer: issuer.map(str::to_owned),
        keys: None,
    };
    let keys = Keys::load(set(Some("us"), None)).await.unwrap();
    for (aud, good) in [
        (json!("us"), true),
        (json!(["us"]), true),
        (json!(["others", "us"]), true),
        (json!(["others", 7, "us"]), true),
        (json!("others"), false),
        (json!(["others"]), false),
        (json!([]), false),
        (json!([["us"]]), false),
        (json!(null), false),
        (json!("US"), false),
        (json!("us "), false),
        (json!({"us": "us"}), false),
    ] {
        assert_eq!(believed(&keys, &HMAC.token(&with("aud", aud.clone()))), good, "{aud}");
    }
    is_refused(&keys, &HMAC.token(&claims()), "Audience");

    let keys = Keys::load(set(None, Some("issuer"))).await.unwrap();
    for (iss, good) in
        [(json!("issuer"), true), (json!("other"), false), (json!(["issuer"]), false), (json!(null), false)]
    {
        assert_eq!(believed(&keys, &HMAC.token(&with("iss", iss.clone()))), good, "{iss}");
    }
    is_refused(&keys, &HMAC.token(&claims()), "Issuer");
}

#[tokio::test]
async fn without_keys_nothing_is_believed() {
    let keys = Keys::load(Jwt::default()).await.unwrap();
    assert!(keys.is_empty());
    for signer in [&HMAC, &RSA, &EC] {
        is_refused(&keys, &signer.token(&claims()), "NoKey");
    }
}

#[tokio::test]
async fn of_keys_with_one_name_or_none_any_may_have_signed() {
    let (first, second) = (ec(), ec());
    let mut nameless = RSA.jwk("");
    nameless.as_object_mut().unwrap().remove("kid");
    let file = File::new(&[first.jwk("one"), second.jwk("one"), nameless]);
    let keys = Keys::load(file.settings()).await.unwrap();
    for signer in [&first, &second] {
        assert!(believed(&keys, &signer.named("one")));
        assert!(believed(&keys, &signer.token(&claims())));
    }
    assert!(believed(&keys, &RSA.token(&claims())));
    is_refused(&keys, &RSA.named("one"), "NoKey");
}

#[tokio::test]
async fn a_file_of_keys_that_cannot_be_used_is_named_with_its_setting_and_shows_no_secret() {
    let file = File::new(&[]);
    let private = {
        let mut jwk = EC.jwk("mine");
        jwk["d"] = json!("s3cret");
        jwk
    };
    let changed = |signer: &Signer, field: &str, value: Value| {
        let mut jwk = signer.jwk("odd");
        jwk[field] = value;
        json!({ "keys": [jwk] }).to_string()
    };
    for (content, reason) in [
        (String::new(), "it is no JWKS"),
        ("s3cret".to_owned(), "it is no JWKS"),
        ("\"s3cret\"".to_owned(), "it is no JWKS"),
        ("{}".to_owned(), "it is no JWKS"),
        ("[]".to_owned(), "it is no JWKS"),
        (json!({"keys": {"a": "s3cret"}}).to_string(), "it is no JWKS"),
        (json!({"keys": ["s3cret"]}).to_string(), "it is no JWKS"),
        (
            json!({"keys": [{"kty": "oct", "k": "s3cret", "kid": "x"}]}).to_string(),
            "key 1 (\"x\") is a symmetric one",
        ),
        (json!({"keys": [{"kty": "RSA", "k": "s3cret"}]}).to_string(), "key 1 is a symmetric one"),
        (json!({"keys": [EC.jwk("x"), private]}).to_string(), "key 2 (\"mine\") is a private one"),
        (
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "", "d": "s3cret"}]}).to_string(),
            "key 1 is a private one",
        ),
        (changed(&RSA, "n", json!(null)), "has no usable \"n\""),
        (changed(&RSA, "e", json!("")), "has no usable \"e\""),
        (changed(&RSA, "n", json!("!".repeat(400))), "has no usable \"n or e\""),
        (changed(&EC, "x", json!("AAAA")), "has no usable \"x\""),
        (changed(&EC, "y", json!("?".repeat(43))), "has no usable \"x or y\""),
    ] {
        let text = file.refused(&content).await;
        assert!(text.contains("jwks.json (ROLLCALL_JWT_KEYS) cannot be used"), "{text}");
        assert!(text.contains(reason), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    fs::remove_file(file.path()).unwrap();
    let text = chain(&Keys::load(file.settings()).await.err().unwrap());
    assert!(text.contains("jwks.json (ROLLCALL_JWT_KEYS) cannot be read"), "{text}");
}

#[test]
fn keys_for_what_is_not_done_here_are_skipped() {
    let changed = |signer: &Signer, field: &str, value: Value| {
        let mut jwk = signer.jwk("odd");
        jwk[field] = value;
        jwk
    };
    for (jwk, reason) in [
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "odd"}), "of the unknown kind \"OKP\""),
        (changed(&EC, "crv", json!("P-384")), "of the unknown kind \"EC\", \"P-384\""),
        (changed(&EC, "crv", json!(null)), "of the unknown kind \"EC\""),
        (json!({"kty": "new", "kid": "odd"}), "of the unknown kind \"new\""),
        (changed(&RSA, "alg", json!("RS512")), "the unknown algorithm \"RS512\""),
        (changed(&RSA, "alg", json!("ES256")), "the unknown algorithm \"ES256\""),
        (changed(&RSA, "alg", json!("HS256")), "the unknown algorithm \"HS256\""),
        (changed(&RSA, "use", json!("enc")), "not for signatures"),
        (changed(&RSA, "key_ops", json!(["encrypt"])), "not for signatures"),
        (changed(&RSA, "n", json!("A".repeat(171))), "less than 2048 bits"),
    ] {
        let content = json!({"keys": [jwk, EC.jwk("good")]}).to_string();
        let jwks = Jwks::parse(content.as_bytes()).unwrap();
        assert_eq!(jwks.keys.len(), 1, "{content}");
        assert_eq!(jwks.skipped.len(), 1, "{content}");
        assert!(jwks.skipped[0].starts_with("key 1 (\"odd\") "), "{:?}", jwks.skipped);
        assert!(jwks.skipped[0].contains(reason), "{:?}", jwks.skipped);
    }
    let fine = changed(&RSA, "key_ops", json!(["verify"]));
    assert_eq!(Jwks::parse(json!({"keys": [fine]}).to_string().as_bytes()).unwrap().keys.len(), 1);
}

#[tokio::test]
async fn the_file_is_read_again_when_it_changes() {
    let (old, new) = (ec(), ec());
    let file = File::new(&[old.jwk("old")]);
    let keys = Keys::load(file.settings()).await.unwrap();
    let stop = CancellationToken::new();
    let told = async {
        let before = keys.generation();
        let becomes = async |token: String, good: bool| {
            let waiting = async {
                while believed(&keys, &token) != good {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(PATIENCE, waiting).await.expect("the change is seen");
        };
        assert!(believed(&keys, &old.named("old")));
        file.write(&json!({"keys": [old.jwk("old"), new.jwk("new")]}).to_string());
        becomes(new.named("new"), true).await;
        assert!(believed(&keys, &old.named("old")));
        let both = keys.generation();
        assert!(both > before);

        file.write(&json!({"keys": [new.jwk("new")]}).to_string());
        becomes(old.named("old"), false).await;
        assert!(believed(&keys, &new.named("new")));
        assert!(keys.generation() > both);

        // An empty set is one: it takes all trust away.
        file.write(r#"{"keys":[]}"#);
        becomes(new.named("new"), false).await;
        assert!(keys.is_empty());
        stop.cancel();
    };
    tokio::join!(keys.clone().follow(stop.clone()), told);
}

#[tokio::test]
async fn a_file_that_has_become_bad_changes_nothing() {
    let file = File::new(&[EC.jwk("ec")]);
    let keys = Keys::load(file.settings()).await.unwrap();
    let before = keys.generation();
    let bad = json!({"keys": [{"kty": "oct", "k": "s3cret"}]}).to_string();
    for content in ["", "{", &bad] {
        file.write(content);
        keys.read_again().await;
        assert!(believed(&keys, &EC.named("ec")), "{content}");
        assert_eq!(keys.generation(), before);
    }
    fs::remove_file(file.path()).unwrap();
    keys.read_again().await;
    assert!(believed(&keys, &EC.named("ec")));
}
