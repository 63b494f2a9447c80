//! Codes that change twice a minute: a second factor (RFC 6238, on top of RFC 4226).
//!
//! A phone and we share a secret, and both know the time; the code is a hash of both, cut to six digits. Six digits can be
//! guessed, so three things bound the guessing: a code is good for its half minute and those beside it, it is good once, and after
//! some wrong ones in a row the next may be tried only after a while, which doubles.
//!
//! Everything here is told the time and keeps nothing on disk: where the secret lies and that the last step outlives a
//! restart is its owner's business.

use std::fmt;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// RFC 4226 section 4, R6 recommends 160 bits.
const SECRET_BYTES: usize = 20;
/// RFC 6238 section 5.2 recommends 30 seconds.
const STEP_S: u64 = 30;
const DIGITS: u32 = 6;
/// Clocks differ, and people type slowly (RFC 6238 section 5.2): so many steps before and after now are good too.
const STEPS_BESIDE: u64 = 1;

/// What a phone and we know.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret([u8; SECRET_BYTES]);

/// The text is no secret of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret of one-time codes is {chars} letters and digits of base 32", chars = SECRET_BYTES * 8 / 5)]
pub struct NotATotpSecret;

impl fmt::Debug for TotpSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TotpSecret(redacted)")
    }
}

impl TotpSecret {
    /// A new one: 160 random bits of the system's.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).expect("the system has random numbers once it has booted");
        Self(bytes)
    }

    /// A secret from its text, in which case and blanks do not matter, since people copy it by hand.
    ///
    /// # Errors
    /// [`NotATotpSecret`] when it has another length or other letters.
    pub fn from_text(text: &str) -> Result<Self, NotATotpSecret> {
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| NotATotpSecret)?;
        Ok(Self(bytes.try_into().map_err(|_| NotATotpSecret)?))
    }

    /// Its text (RFC 4648 section 6, without padding), as authenticators take it by hand.
    #[must_use]
    pub fn text(&self) -> String {
        BASE32_NOPAD.encode(&self.0)
    }

    /// The address that authenticators read from a picture (Google Authenticator's Key URI Format). What is its name in
    /// their list is made of letters, digits and a few signs; others are left out.
    #[must_use]
    pub fn uri(&self, issuer: &str, account: &str) -> String {
        let plain = |text: &str| -> String {
            text.chars().filter(|letter| letter.is_ascii_alphanumeric() || "-._~".contains(*letter)).collect()
        };
        let (issuer, account, secret) = (plain(issuer), plain(account), self.text());
        format!(
            "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_S}"
        )
    }

    /// The step whose code `given` is at `now`, since 1970. No step up to `last` counts any more: a code is good once, and
    /// whoever looks over a shoulder comes too late (RFC 6238 section 5.2).
    #[must_use]
    pub fn step_of(&self, given: &str, now: Duration, last: u64) -> Option<u64> {
        let given: String = given.chars().filter(|letter| *letter != ' ').collect();
        let this = now.as_secs() / STEP_S;
        let mut found = None;
        // Each step is looked at, so that the time does not tell which it was.
        for step in this.saturating_sub(STEPS_BESIDE)..=this.saturating_add(STEPS_BESIDE) {
            let is_code = crate::secret::is_same(self.code(step).as_bytes(), given.as_bytes());
            if is_code && step > last {
                found = Some(step);
            }
        }
        found
    }

    /// The code that a phone would show at `now`, since 1970: for tests, and for whoever wants to compare.
    #[must_use]
    pub fn code_at(&self, now: Duration) -> String {
        self.code(now.as_secs() / STEP_S)
    }

    fn code(&self, step: u64) -> String {
        let number = hotp(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0, step, DIGITS);
        format!("{number:0width$}", width = DIGITS as usize)
    }
}

/// RFC 4226 section 5.3: an HMAC of the counter, of which four bytes are taken from where its last byte says, and of these the
/// last digits.
fn hotp(algorithm: hmac::Algorithm, key: &[u8], counter: u64, digits: u32) -> u32 {
    let tag = hmac::sign(&hmac::Key::new(algorithm, key), &counter.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0xf);
    let word = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    word % 10_u32.pow(digits)
}

/// Bounds guessing: some wrong ones in a row are free, each further one doubles the wait for the next (RFC 4226 section 7.3).
///
/// At most one guess an hour is left to whoever goes on and on, a chance of one in 300,000 each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempts {
    wrong: u32,
    /// Since the clock's start.
    next_at: Duration,
}

impl Attempts {
    /// Wrong ones in a row that cost no wait.
    pub const FREE: u32 = 5;
    /// The first wait.
    pub const WAIT_MIN: Duration = Duration::from_secs(30);
    /// No wait is longer.
    pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

    /// How long the next attempt has to wait at `now`; nothing when it may be made.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let wait = self.next_at.saturating_sub(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// One was wrong.
    pub fn failed(&mut self, now: Duration) {
        self.wrong = self.wrong.saturating_add(1);
        if let Some(beyond) = self.wrong.checked_sub(Self::FREE) {
            let wait = Self::WAIT_MIN.saturating_mul(2_u32.saturating_pow(beyond)).min(Self::WAIT_MAX);
            self.next_at = now + wait;
        }
    }

    /// One was right: whoever made it is no guesser.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: hmac::Algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;

    #[test]
    fn rfc4226_appendix_d() {
        let codes =
            [755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489];
        for (counter, code) in (0..).zip(codes) {
            assert_eq!(hotp(SHA1, b"12345678901234567890", counter, 6), code, "counter {counter}");
        }
    }

    #[test]
    fn rfc6238_appendix_b() {
        let digits: Vec<u8> = b"1234567890".iter().copied().cycle().take(64).collect();
        let ways = [(SHA1, &digits[..20]), (hmac::HMAC_SHA256, &digits[..32]), (hmac::HMAC_SHA512, &digits)];
        let table = [
            (59, [94_287_082, 46_119_246, 90_693_936]),
            (1_111_111_109, [7_081_804, 68_084_774, 25_091_201]),
            (1_111_111_111, [14_050_471, 67_062_674, 99_943_326]),
            (1_234_567_890, [89_005_924, 91_819_424, 93_441_116]),
            (2_000_000_000, [69_279_037, 90_698_825, 38_618_901]),
            (20_000_000_000_u64, [65_353_130, 77_737_706, 47_863_826]),
        ];
        for (seconds, codes) in table {
            for ((algorithm, key), code) in ways.iter().zip(codes) {
                assert_eq!(hotp(*algorithm, key, seconds / STEP_S, 8), code, "{seconds} {algorithm:?}");
            }
        }
    }

    fn secret() -> TotpSecret {
        TotpSecret(*b"12345678901234567890")
    }

    #[test]
    fn a_code_is_good_for_its_half_minute_and_those_beside_it() {
        let at = |seconds: u64| Duration::from_secs(seconds);
        let code = secret().code_at(at(600));
        assert_eq!(secret().step_of(&code, at(570), 0), Some(20), "a phone that is ahead");
        assert_eq!(secret().step_of(&code, at(659), 0), Some(20), "somebody who types slowly");
        assert_eq!(secret().step_of(&code, at(569), 0), None);
        assert_eq!(secret().step_of(&code, at(660), 0), None);
        let spaced = format!("{} {}", &code[..3], &code[3..]);
        assert_eq!(secret().step_of(&spaced, at(600), 0), Some(20), "as phones show it");
    }

    #[test]
    fn rfc6238_5_2_a_code_is_good_once() {
        let at = Duration::from_secs(600);
        let code = secret().code_at(at);
        let step = secret().step_of(&code, at, 0).expect("good");
        assert_eq!(secret().step_of(&code, at, step), None);
        let before = secret().code_at(at - Duration::from_secs(30));
        assert_eq!(secret().step_of(&before, at, step), None, "nor is one that is older still");
        let next = secret().code_at(at + Duration::from_secs(30));
        assert_eq!(secret().step_of(&next, at, step), Some(step + 1));
    }

    #[test]
    fn what_is_no_code_is_wrong() {
        let at = Duration::from_secs(600);
        let code = secret().code_at(at);
        for wrong in ["", "0", &code[1..], &format!("{code}0"), &format!("-{}", &code[1..]), "١٢٣٤٥٦"] {
            assert_eq!(secret().step_of(wrong, at, 0), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_is_written_as_authenticators_read_it() {
        assert_eq!(secret().text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(TotpSecret::from_text(" gezd gnbv gy3t qojq gezd gnbv gy3t qojq\n"), Ok(secret()));
        for wrong in
            ["", "GEZDGNBVGY3TQOJQ", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQA"]
        {
            assert_eq!(TotpSecret::from_text(wrong), Err(NotATotpSecret), "{wrong}");
        }
        let expected = "otpauth://totp/Terrace:my-host?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Terrace\
                        &algorithm=SHA1&digits=6&period=30";
        assert_eq!(secret().uri("Terrace", "my-host&secret=x?".split('&').next().unwrap()), expected);
        assert!(!secret().uri("a:b", "c&issuer=d").contains("&issuer=d"));
        assert_eq!(format!("{:?}", TotpSecret::random()), "TotpSecret(redacted)");
        assert_ne!(TotpSecret::random(), TotpSecret::random());
    }

    #[test]
    fn who_guesses_waits_longer_and_longer_and_at_most_an_hour() {
        let mut attempts = Attempts::default();
        let mut now = Duration::from_secs(1_000);
        for _ in 1..Attempts::FREE {
            attempts.failed(now);
            assert_eq!(attempts.wait(now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            attempts.failed(now);
            let wait = attempts.wait(now).expect("a wait");
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(attempts.wait(now), None, "and no longer");
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        (0..100).for_each(|_| attempts.failed(now));
        assert_eq!(attempts.wait(now), Some(Attempts::WAIT_MAX));
        attempts.succeeded();
        attempts.failed(now);
        assert_eq!(attempts.wait(now), None);
    }
}
