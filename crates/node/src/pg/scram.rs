//! SCRAM-SHA-256: proves a password without sending it, and keeps none. Pure but for two random strings.
//!
//! Source: RFC 5802, RFC 7677, RFC 5929, 4 (`tls-server-end-point`); PostgreSQL 15 documentation, 55.3.
//!
//! ```text
//!  client                                             server
//!  n,,n=,r=C                 ── First::answer ──>     r=C+S,s=salt,i=count
//!  c=biws,r=C+S,p=proof      ── Last::answer  ──>     v=signature, or who it is stays unproved
//! ```
//! # Invariants
//! * S1 A user that is not known is answered as one that is: the salt that it is told depends on its name and a
//!   secret of the validator alone, after a restart too, and the same work is done.
//! * S2 With channel binding, the proof covers the certificate that the client saw.
//! # Deviations
//! The name inside the client's first message is not read, as PostgreSQL does: the start-up message has it. Where
//! verifiers differ in their iterations, those of the first are told for a user that is not known, and may tell.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quipu_query::SqlError;
use quipu_types::code;
use ring::{digest, hmac, pbkdf2};

/// The mechanism without channel binding.
pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub(crate) const PLUS: &str = "SCRAM-SHA-256-PLUS";
/// Most bytes of a client's message.
pub(crate) const MESSAGE_SIZE_MAX: usize = 1_024;
/// Iterations of a new verifier, PostgreSQL's number.
const ITERATION_COUNT: u32 = 4_096;
/// What a verifier may ask its clients to do.
const ITERATION_COUNT_MAX: u32 = 10_000_000;
const SALT_SIZE: usize = 16;
const SALT_SIZE_MAX: usize = 256;
const NONCE_SIZE: usize = 18;
const KEY_SIZE: usize = 32;
const BINDING_FLAG: &str = "p=tls-server-end-point";

/// What is kept of a password: enough to check a proof, too little to make one.
///
/// Its text is PostgreSQL's: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`, the parts in Base64.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_SIZE],
    server_key: [u8; KEY_SIZE],
}

/// A text that is no verifier.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no password verifier of the form SCRAM-SHA-256$4096:salt$StoredKey:ServerKey; make one with quipu keys verifier"
)]
pub struct NoVerifier;

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|part| STANDARD.encode(part));
        write!(f, "{PLAIN}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl FromStr for Verifier {
    type Err = NoVerifier;

    fn from_str(text: &str) -> Result<Self, NoVerifier> {
        Self::parse(text).ok_or(NoVerifier)
    }
}

impl TryFrom<String> for Verifier {
    type Error = NoVerifier;

    fn try_from(text: String) -> Result<Self, NoVerifier> {
        text.parse()
    }
}

impl Verifier {
    /// The verifier of a password, with a fresh salt.
    pub fn of_password(password: &str) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT_SIZE];
        getrandom::fill(&mut salt)?;
        let iterations = NonZeroU32::new(ITERATION_COUNT).expect("it is not 0");
        Ok(Self::derive(password, &salt, iterations))
    }

    fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        // What SASLprep refuses is taken as it is, by PostgreSQL's clients too.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = [0; KEY_SIZE];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, salt, prepared.as_bytes(), &mut salted);
        let client_key = mac(&salted, b"Client Key");
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: hash(&client_key),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PLAIN)?.strip_prefix('$')?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let iterations: u32 = iterations.parse().ok()?;
        let in_range = (ITERATION_COUNT..=ITERATION_COUNT_MAX).contains(&iterations);
        let salt = STANDARD.decode(salt).ok()?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let verifier = Self {
            iterations: NonZeroU32::new(iterations)?,
            stored_key: key(stored)?,
            server_key: key(server)?,
            salt,
        };
        let has_salt = (1..=SALT_SIZE_MAX).contains(&verifier.salt.len());
        (in_range && has_salt).then_some(verifier)
    }
}

/// The verifiers of all users that have a password here.
pub(crate) struct Passwords {
    verifiers: BTreeMap<String, Verifier>,
    /// What the salts of those that have none are made from (S1).
    secret: [u8; KEY_SIZE],
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("verifiers", &self.verifiers).finish_non_exhaustive()
    }
}

impl Passwords {
    /// `key` is the validator's key file: nobody else can tell the secret that is made from it.
    pub(crate) fn new(verifiers: BTreeMap<String, Verifier>, key: &[u8]) -> Self {
        Self { verifiers, secret: mac(&hash(key), b"quipu: the salts of users that are not known") }
    }

    /// Whether nobody needs one.
    pub(crate) fn is_empty(&self) -> bool {
        self.verifiers.is_empty()
    }

    /// Begins to check the password of `user`; `binding` is the hash of the certificate that the client saw.
    pub(crate) fn check(&self, user: &str, binding: Option<&[u8]>) -> First {
        // Made in any case: it takes time.
        let mock = self.mock(user);
        let (verifier, is_known) = match self.verifiers.get(user) {
            Some(verifier) => (verifier.clone(), true),
            None => (mock, false),
        };
        First { user: user.to_owned(), verifier, is_known, binding: binding.map(<[u8]>::to_vec) }
    }

    fn mock(&self, user: &str) -> Verifier {
        let part = |what: &str| mac(&self.secret, format!("{what} of {user}").as_bytes());
        let like = self.verifiers.values().next();
        let least = NonZeroU32::new(ITERATION_COUNT).expect("it is not 0");
        let mut salt = part("salt").to_vec();
        salt.truncate(like.map_or(SALT_SIZE, |like| like.salt.len()));
        Verifier {
            iterations: like.map_or(least, |like| like.iterations),
            salt,
            stored_key: part("stored key"),
            server_key: part("server key"),
        }
    }
}

/// A random string that no other exchange has.
pub(crate) fn nonce() -> Result<String, SqlError> {
    let mut bytes = [0; NONCE_SIZE];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(STANDARD.encode(bytes)),
        Err(_) => Err(SqlError::new("58000", code::CONFIG, "the system gives no randomness")),
    }
}

/// An exchange that waits for the client's first message.
#[derive(Debug)]
pub(crate) struct First {
    user: String,
    verifier: Verifier,
    is_known: bool,
    binding: Option<Vec<u8>>,
}

impl First {
    /// The mechanisms that the client may choose, the best first.
    pub(crate) fn mechanisms(&self) -> &'static [&'static str] {
        if self.binding.is_some() { &[PLUS, PLAIN] } else { &[PLAIN] }
    }

    /// Answers the client's first message; `nonce` makes the exchange unlike any other.
    pub(crate) fn answer(
        self,
        mechanism: &str,
        message: &[u8],
        nonce: &str,
    ) -> Result<(String, Last), SqlError> {
        if !self.mechanisms().contains(&mechanism) {
            return Err(violation("client selected an invalid SASL authentication mechanism"));
        }
        let malformed = || violation("malformed SCRAM message");
        let text = std::str::from_utf8(message).map_err(|_| malformed())?;
        let (flag, rest) = text.split_once(',').ok_or_else(malformed)?;
        let (identity, bare) = rest.split_once(',').ok_or_else(malformed)?;
        let is_bound = match flag {
            BINDING_FLAG => true,
            "n" => false,
            "y" if self.binding.is_none() => false,
            // Somebody between hid from the client that the server can bind.
            "y" => return Err(unbound()),
            _ => return Err(violation("malformed SCRAM message: unknown channel binding")),
        };
        if is_bound != (mechanism == PLUS) {
            return Err(violation("SCRAM message does not fit its mechanism's channel binding"));
        }
        if !identity.is_empty() {
            let what = "client uses authorization identity, but it is not supported";
            return Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, what));
        }
        let mut attributes = bare.split(',');
        let name = attributes.next().unwrap_or_default();
        let theirs = attributes.next().and_then(|part| part.strip_prefix("r="));
        let theirs = theirs.filter(|_| name.starts_with("n=")).ok_or_else(malformed)?;
        if theirs.is_empty() || !theirs.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(violation("non-printable characters in SCRAM nonce"));
        }
        let mut bound = format!("{flag},,").into_bytes();
        bound.extend(self.binding.filter(|_| is_bound).unwrap_or_default());
        let nonce = format!("{theirs}{nonce}");
        let Verifier { salt, iterations, .. } = &self.verifier;
        let said = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let last = Last {
            begin: format!("{bare},{said},"),
            bound: STANDARD.encode(bound),
            nonce,
            user: self.user,
            verifier: self.verifier,
            is_known: self.is_known,
        };
        Ok((said, last))
    }
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub(crate) struct Last {
    user: String,
    verifier: Verifier,
    is_known: bool,
    /// What both sides have said, up to the client's last message.
    begin: String,
    bound: String,
    nonce: String,
}

impl Last {
    /// Checks the proof; what is said then proves to the client that the server knows the verifier.
    pub(crate) fn answer(self, message: &[u8]) -> Result<String, SqlError> {
        let malformed = || violation("malformed SCRAM message");
        let text = std::str::from_utf8(message).map_err(|_| malformed())?;
        let (unproved, proof) = text.rsplit_once(",p=").ok_or_else(malformed)?;
        let mut attributes = unproved.split(',');
        let bound = attributes.next().and_then(|part| part.strip_prefix("c="));
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        let (Some(bound), Some(nonce)) = (bound, nonce) else { return Err(malformed()) };
        if bound != self.bound {
            return Err(unbound());
        }
        if nonce != self.nonce {
            return Err(violation("invalid SCRAM response: nonce does not match"));
        }
        let proof = STANDARD.decode(proof).map_err(|_| malformed())?;
        let proof: [u8; KEY_SIZE] = proof.try_into().map_err(|_| malformed())?;
        let said = format!("{}{unproved}", self.begin);
        let mut client_key = mac(&self.verifier.stored_key, said.as_bytes());
        client_key.iter_mut().zip(proof).for_each(|(byte, mask)| *byte ^= mask);
        let differs = hash(&client_key)
            .iter()
            .zip(self.verifier.stored_key)
            .fold(0, |sum, (left, right)| sum | (left ^ right));
        let signature = mac(&self.verifier.server_key, said.as_bytes());
        if differs != 0 || !self.is_known {
            let message = format!("password authentication failed for user \"{}\"", self.user);
            return Err(SqlError::new("28P01", code::NOT_ADMITTED, message));
        }
        Ok(format!("v={}", STANDARD.encode(signature)))
    }
}

fn violation(message: &str) -> SqlError {
    SqlError::new("08P01", code::BAD_REQUEST, message)
}

fn unbound() -> SqlError {
    SqlError::new("28000", code::NOT_ADMITTED, "SCRAM channel binding check failed")
        .hint("somebody may be reading along: check the server's certificate")
}

fn mac(key: &[u8; KEY_SIZE], message: &[u8]) -> [u8; KEY_SIZE] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

fn hash(message: &[u8]) -> [u8; KEY_SIZE] {
    let digest = digest::digest(&digest::SHA256, message);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    /// RFC 7677, 3: the user `user` with the password `pencil`.
    fn rfc() -> Passwords {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let iterations = NonZeroU32::new(4096).unwrap();
        let verifier = Verifier::derive("pencil", &salt, iterations);
        Passwords { verifiers: [("user".into(), verifier)].into(), secret: [7; KEY_SIZE] }
    }

    const RFC_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const RFC_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const RFC_LAST: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_exchange_of_the_rfc_is_had_and_another_user_fails_the_same_way_as_another_password() {
        let (first, last) = rfc().check("user", None).answer(PLAIN, RFC_FIRST, RFC_NONCE).unwrap();
        expect![
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        ]
        .assert_eq(&first);
        expect!["v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="]
            .assert_eq(&last.answer(RFC_LAST).unwrap());
        let (said, last) = rfc().check("nobody", None).answer(PLAIN, RFC_FIRST, RFC_NONCE).unwrap();
        let (again, _) = rfc().check("nobody", None).answer(PLAIN, RFC_FIRST, RFC_NONCE).unwrap();
        assert_eq!(said, again, "a salt that changes tells that there is no such user");
        assert_eq!(said.len(), first.len());
        let error = last.answer(RFC_LAST).unwrap_err();
        expect![[r#"28P01 password authentication failed for user "nobody""#]]
            .assert_eq(&format!("{} {}", error.sqlstate, error.message));
    }

    #[test]
    fn a_verifier_is_read_as_it_is_written_and_others_are_refused() {
        let verifier = rfc().verifiers.remove("user").unwrap();
        expect!["SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="]
            .assert_eq(&verifier.to_string());
        assert_eq!(verifier.to_string().parse(), Ok(verifier));
        for wrong in [
            "",
            "pencil",
            "md5a1b2",
            "SCRAM-SHA-256$4095:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        ] {
            assert_eq!(wrong.parse::<Verifier>(), Err(NoVerifier), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_prepared_as_rfc_4013_says_and_as_postgresql_does_it() {
        let derived = |password: &str, verifier: &Verifier| {
            Verifier::derive(password, &verifier.salt, verifier.iterations)
        };
        let own = Verifier::of_password("IX").unwrap();
        // RFC 4013, 3: examples 1 and 5 are one password; 2, 3, 4 stay or are folded.
        assert_eq!(derived("I\u{ad}X", &own), own);
        assert_eq!(derived("\u{2168}", &own), own);
        for (password, same) in [("user", "user"), ("USER", "USER"), ("\u{aa}", "a")] {
            assert_eq!(derived(password, &own), derived(same, &own));
        }
        assert_ne!(derived("USER", &own), derived("user", &own));
        // What PostgreSQL 15 kept of passwords; it takes one that RFC 4013 forbids as it is.
        for (password, kept) in [
            (
                "I\u{ad}X",
                "SCRAM-SHA-256$4096:GP80BK0DyGj/RYQP2ZTDMA==$Hu0YLIjcWYhkknf2BcPJ/HtMdzjzy1/XqEPZcEDWu/s=:8Ev7v8oPOWOgIE5B45WKYy6BGRk0ARWnctRv678hv/8=",
            ),
            (
                "a\u{7}b",
                "SCRAM-SHA-256$4096:C79XuWVNypefLBr61kQWtA==$0vTHvihWcY+zHVDw7mibLBqvciHiv62mHWV8+R4f53o=:aPEOwpxtRoEN5o0jFb1gvdbIRib37EWZbvxhRc1Hyqw=",
            ),
            (
                "pass w\u{f6}rd",
                "SCRAM-SHA-256$4096:Cc6HALaDhV9ubSN4nr2mag==$bOYb3fDruVxQb8MVcrG3dlVGNsP8GsQkCO2fPMBuswE=:qBwGhXMP3yi7/O0MGcEXl+sW8Uzc1iKfnmfKbNpob/c=",
            ),
        ] {
            let kept: Verifier = kept.parse().unwrap();
            assert_eq!(derived(password, &kept), kept, "{password:?}");
        }
    }

    #[test]
    fn binding_is_checked_and_can_not_be_talked_away() {
        let told = |binding: Option<&[u8]>, mechanism: &str, first: &[u8], last: &[u8]| {
            let first = rfc().check("user", binding).answer(mechanism, first, RFC_NONCE);
            let error = first.and_then(|(_, last_of)| last_of.answer(last)).unwrap_err();
            format!("{} {}\n", error.sqlstate, error.message)
        };
        let bound = b"p=tls-server-end-point,,n=,r=abc";
        let other = b"c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsb3RoZXI=,r=abc,p=AA==";
        expect![[r#"
            28000 SCRAM channel binding check failed
            28000 SCRAM channel binding check failed
            08P01 SCRAM message does not fit its mechanism's channel binding
            08P01 client selected an invalid SASL authentication mechanism
        "#]]
        .assert_eq(
            &[
                told(Some(b"cert"), PLAIN, b"y,,n=,r=abc", b""),
                told(Some(b"cert"), PLUS, bound, other),
                told(Some(b"cert"), PLAIN, bound, other),
                told(None, PLUS, bound, other),
            ]
            .concat(),
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(first in "[ny],,[nr=,a-z]{0,20}|\\PC{0,40}", last in "\\PC{0,60}") {
            let passwords = rfc();
            let begun = passwords.check("user", None).answer(PLAIN, first.as_bytes(), "x");
            if let Ok((_, expected)) = begun {
                prop_assert!(expected.answer(last.as_bytes()).is_err());
            }
        }
    }
}
