//! Who is visiting, as the gateway tells it, and what they carry in their cookies.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Web;
use super::pages::Oops;
use crate::catalog::{LINES_MAX, QUANTITY_MAX, WantedLine};
use crate::client;
use crate::person::Person;
use crate::problem::Problem;
use crate::token;

/// How long a cart is remembered.
const CART_DAYS: u32 = 30;

/// The person in front of the shelves.
pub(super) struct Visitor {
    pub(super) cart: Cart,
    person: Option<Person>,
    /// They came by TLS, so their cookies need never travel without.
    is_secure: bool,
    /// Where they are, for coming back after the login.
    path: String,
}

/// Why a page cannot be shown to this visitor.
pub(super) enum Halt {
    /// They have to sign in first, and come back.
    Login { back_to: String },
    /// Something is wrong.
    Problem(Problem),
}

impl From<Problem> for Halt {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Halt {
    fn into_response(self) -> Response {
        match self {
            Self::Login { back_to } => {
                see_other(&format!("/login?next={}", client::encode(&back_to)), Vec::new())
            }
            Self::Problem(problem) => Oops(problem).into_response(),
        }
    }
}

/// What somebody is about to buy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cart(Vec<WantedLine>);

impl FromRequestParts<Arc<Web>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Web>) -> Result<Self, Infallible> {
        let cart = Cart::parse(cookie(&parts.headers, "cart").unwrap_or_default());
        let is_secure = parts.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
        let (person, path) = (Person::of(&parts.headers), parts.uri.path().to_owned());
        Ok(Self { cart, person, is_secure, path })
    }
}

impl Visitor {
    /// The signed-in person; whoever is not is led to the login.
    pub(super) fn signed_in(&self) -> Result<&Person, Halt> {
        match &self.person {
            Some(person) => Ok(person),
            None => Err(Halt::Login { back_to: self.path.clone() }),
        }
    }

    /// The signed-in person, if any.
    pub(super) fn person(&self) -> Option<&Person> {
        self.person.as_ref()
    }

    /// The cookie that keeps `cart`.
    pub(super) fn cart_cookie(&self, cart: &Cart) -> HeaderValue {
        self.cookie("cart", &cart.print(), CART_DAYS * 86_400)
    }

    /// The cookie that keeps a login; an empty token ends it.
    pub(super) fn session_cookie(&self, token: &str) -> HeaderValue {
        let lifetime_s = u32::try_from(token::LIFETIME.as_secs()).unwrap_or(u32::MAX);
        self.cookie("session", token, if token.is_empty() { 0 } else { lifetime_s })
    }

    fn cookie(&self, name: &str, value: &str, age_s: u32) -> HeaderValue {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&text).expect("carts and tokens are of plain letters")
    }
}

/// Sends the browser elsewhere with a GET.
pub(super) fn see_other(to: &str, cookies: Vec<HeaderValue>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    match HeaderValue::from_str(to) {
        Ok(to) => headers.insert(header::LOCATION, to),
        Err(_) => headers.insert(header::LOCATION, HeaderValue::from_static("/")),
    };
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

/// `next` if it is a page of ours; somebody else's link must not send people away after their login.
pub(super) fn local_path(next: Option<&str>) -> &str {
    match next {
        Some(next) if is_local(next) => next,
        _ => "/",
    }
}

fn is_local(path: &str) -> bool {
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    path.starts_with('/') && !path.starts_with("//") && is_plain && path.len() <= 200
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    for header in headers.get_all(header::COOKIE) {
        for pair in header.to_str().unwrap_or_default().split(';') {
            match pair.trim().split_once('=') {
                Some((found, value)) if found == name && !value.is_empty() => return Some(value),
                _ => (),
            }
        }
    }
    None
}

impl Cart {
    /// Reads the cookie, `olive-tree:1.lavender:2`; what makes no sense in it is left out.
    fn parse(text: &str) -> Self {
        let mut cart = Self::default();
        for line in text.split('.').take(LINES_MAX) {
            if let Some((product, quantity)) = line.split_once(':') {
                cart.add(product, quantity.parse().unwrap_or(0));
            }
        }
        cart
    }

    fn print(&self) -> String {
        let lines = self.0.iter().map(|line| format!("{}:{}", line.product, line.quantity));
        lines.collect::<Vec<_>>().join(".")
    }

    /// Adds some more of a product, within bounds.
    pub(super) fn add(&mut self, product: &str, quantity: u32) {
        let had = self.0.iter().find(|line| line.product == product).map_or(0, |line| line.quantity);
        self.set(product, had.saturating_add(quantity));
    }

    /// Sets how many of a product; none takes it out. What no product can be called is left out.
    pub(super) fn set(&mut self, product: &str, quantity: u32) {
        let quantity = quantity.min(QUANTITY_MAX);
        match self.0.iter().position(|line| line.product == product) {
            Some(at) if quantity == 0 => {
                self.0.remove(at);
            }
            Some(at) => self.0[at].quantity = quantity,
            None if quantity > 0 && self.0.len() < LINES_MAX && is_product_id(product) => {
                self.0.push(WantedLine { product: product.to_owned(), quantity });
            }
            None => (),
        }
    }

    pub(super) fn lines(&self) -> &[WantedLine] {
        &self.0
    }

    /// Pieces of all kinds.
    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|line| line.quantity).sum()
    }
}

/// Lower-case letters, digits and dashes: safe in cookies, paths and queries.
pub(super) fn is_product_id(text: &str) -> bool {
    let is_plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    is_plain && (1..=64).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cart_survives_its_cookie() {
        let mut cart = Cart::default();
        cart.add("olive-tree", 1);
        cart.add("lavender", 2);
        cart.add("olive-tree", 3);
        assert_eq!(cart.print(), "olive-tree:4.lavender:2");
        assert_eq!(Cart::parse(&cart.print()), cart);
        cart.set("olive-tree", 0);
        assert_eq!(cart.count(), 2);
    }

    #[test]
    fn a_cart_made_up_by_somebody_is_within_bounds() {
        let many: String = (0..100).map(|i| format!("p{i}:7.")).collect();
        assert_eq!(Cart::parse(&many).lines().len(), LINES_MAX);
        assert_eq!(Cart::parse("a:4000000000.a:4000000000").count(), QUANTITY_MAX);
        for nonsense in ["", ".", ":", "a", "a:", "a:x", "a:-1", "A:1", "a b:1", "\u{e9}:1", "a:0"] {
            assert_eq!(Cart::parse(nonsense), Cart::default(), "{nonsense}");
        }
    }

    #[test]
    fn a_login_leads_back_to_our_own_pages_only() {
        assert_eq!(local_path(Some("/orders/7")), "/orders/7");
        for wrong in ["//evil.example", "https://evil.example", "/\\evil.example", "/a b", "/\r\nx: y", ""] {
            assert_eq!(local_path(Some(wrong)), "/", "{wrong}");
        }
    }
}
