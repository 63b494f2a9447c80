//! `terrace totp`: the secret of the dashboard's second factor, shown once, so that a phone can be set up.
//!
//! It is drawn as a picture that authenticators read from the screen, and written below it for those that do not. Nothing of it is sent
//! anywhere: the picture is made here.

use std::path::Path;

use qrcode::{Color, EcLevel, QrCode};
use serde_json::{Value, json};
use terrace_admin::client::{self, ClientError};
use terrace_admin::offline;

use super::{Paint, print};
use crate::cli::{Global, Totp};

/// Light modules around the picture, without which it is not found (ISO/IEC 18004 section 5.3.8 asks for four; readers do with two).
const MARGIN: usize = 2;

/// Asks for the secret, from the running Terrace or from its folder, and shows it.
pub(super) async fn run(socket: &Path, totp: &Totp, global: &Global) -> Result<(), ClientError> {
    let value = match client::request(socket, "POST", "/v1/totp", Some(&json!({ "new": totp.new }))).await {
        Err(ClientError::NotRunning { .. }) => {
            let folder = socket.parent().unwrap_or_else(|| Path::new("."));
            offline::totp(folder, totp.new).map_err(ClientError::Refused)?
        }
        answered => answered?,
    };
    print(global, &value, |paint| shown(&value, paint));
    if !global.json {
        let is_on = value["is_on"].as_bool().unwrap_or(true);
        eprintln!("this is the only time that it is shown; `terrace totp --new` makes another");
        if !is_on {
            eprintln!("the dashboard does not ask for codes yet: write `totp = true` into [admin]");
        }
    }
    Ok(())
}

fn shown(value: &Value, paint: Paint) -> String {
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let picture = match QrCode::with_error_correction_level(text("uri"), EcLevel::L) {
        Ok(code) => drawn(&code, paint),
        Err(_) => String::new(),
    };
    let secret = text("secret").as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four).into_owned());
    let secret: Vec<String> = secret.collect();
    format!("{picture}\n  {}\n  {}\n", paint.bold(&secret.join(" ")), text("uri"))
}

/// Two modules a letter, one over the other. Where colours are allowed they say what is dark; else what is light is drawn, as most
/// terminals are dark.
fn drawn(code: &QrCode, paint: Paint) -> String {
    let width = code.width();
    let is_light = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(MARGIN).filter(|at| *at < width);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => code[(x, y)] == Color::Light,
            _ => true,
        }
    };
    let whole = width + 2 * MARGIN;
    let mut out = String::new();
    for y in (0..whole).step_by(2) {
        let letter = |x: usize| match (is_light(x, y), y + 1 >= whole || is_light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        let line: String = (0..whole).map(letter).collect();
        out.push_str("  ");
        out.push_str(&paint.with("97;40", &line));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is drawn, module by module: whether it is dark.
    fn modules(picture: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in picture.lines() {
            let letters: Vec<char> = line.trim_start_matches("  ").chars().collect();
            rows.push(letters.iter().map(|letter| matches!(letter, ' ' | '▄')).collect());
            rows.push(letters.iter().map(|letter| matches!(letter, ' ' | '▀')).collect());
        }
        rows
    }

    #[test]
    fn the_picture_is_the_code_with_a_margin() {
        let code = QrCode::with_error_correction_level("otpauth://totp/x", EcLevel::L).expect("it fits");
        let picture = drawn(&code, Paint(false));
        let rows = modules(&picture);
        let width = code.width();
        assert_eq!(
            picture.lines().next().expect("a line").trim_start_matches("  ").chars().count(),
            width + 2 * MARGIN
        );
        for y in 0..width {
            for x in 0..width {
                let is_dark = code[(x, y)] == Color::Dark;
                assert_eq!(rows[y + MARGIN][x + MARGIN], is_dark, "{x} {y}");
            }
        }
        assert!(rows[..MARGIN].iter().all(|row| row.iter().all(|dark| !dark)));
    }

    #[test]
    fn the_secret_is_written_in_fours_below_the_picture() {
        let value = json!({ "secret": "ABCDEFGHIJ", "uri": "otpauth://totp/Terrace:x?secret=ABCDEFGHIJ" });
        let text = shown(&value, Paint(false));
        assert!(text.ends_with("\n  ABCD EFGH IJ\n  otpauth://totp/Terrace:x?secret=ABCDEFGHIJ\n"), "{text}");
        assert!(text.contains('█'));
    }
}
