//! What a person does with a browser: pages, forms, redirects and cookies, every byte of which a test can see.
//!
//! Cookies are kept as browsers keep them, by host, without regard to the port (RFC 6265 section 8.5), by path, and until they are taken
//! away. A request says that it is for a page (Fetch Metadata), unless a script makes it.

use std::net::{Ipv4Addr, SocketAddr};

use crate::http::{Request, Response};

/// More redirects in a row are a circle.
const REDIRECTS_MAX: usize = 20;

/// A browser. A clone is another one with the same cookies.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    cookies: Vec<Cookie>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cookie {
    host: String,
    path: String,
    name: String,
    value: String,
}

/// A page that was shown in the end, and where.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its address.
    pub url: String,
    /// What was answered there.
    pub response: Response,
    /// The addresses passed on the way to it, the first asked for first.
    pub passed: Vec<String>,
}

impl Browser {
    /// One without cookies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens an address that was typed, and stays there whatever is answered.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    pub fn open(&mut self, url: &str) -> Response {
        self.send("GET", url, None, &navigation("none"))
    }

    /// Follows a link from a page of that site: `same-origin`, `same-site` or `cross-site`.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    pub fn link(&mut self, url: &str, site: &str) -> Response {
        self.send("GET", url, None, &navigation(site))
    }

    /// Asks for data as a script of the same origin does.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    pub fn fetch(&mut self, url: &str) -> Response {
        let fields =
            [("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"), ("Sec-Fetch-Site", "same-origin")];
        self.send("GET", url, None, &fields)
    }

    /// Sends a form from a page of that site.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    pub fn submit(&mut self, url: &str, form: &str, site: &str) -> Response {
        self.send("POST", url, Some(form), &navigation(site))
    }

    /// Opens an address and goes wherever it leads.
    ///
    /// # Panics
    /// When there is no whole answer, or no end of redirects.
    #[track_caller]
    pub fn go(&mut self, url: &str) -> Page {
        let response = self.open(url);
        self.follow(url, response)
    }

    /// Goes wherever an answer leads.
    ///
    /// # Panics
    /// When there is no whole answer, or no end of redirects.
    #[track_caller]
    pub fn follow(&mut self, url: &str, response: Response) -> Page {
        let mut page = Page { url: url.to_owned(), response, passed: Vec::new() };
        for _ in 0..REDIRECTS_MAX {
            let location = page.response.field("location").map(str::to_owned);
            let (true, Some(location)) = ((300..400).contains(&page.response.status), location) else {
                return page;
            };
            let next = resolved(&page.url, &location);
            page.passed.push(std::mem::replace(&mut page.url, next));
            page.response = self.send("GET", &page.url, None, &navigation("cross-site"));
        }
        panic!("redirects without an end: {:?}", page.passed);
    }

    /// The value of a cookie that is sent to that host.
    #[must_use]
    pub fn cookie(&self, host: &str, name: &str) -> Option<&str> {
        let mut found = self.cookies.iter().filter(|cookie| cookie.host == host && cookie.name == name);
        found.next().map(|cookie| cookie.value.as_str())
    }

    /// The names of all cookies that are sent to that host.
    #[must_use]
    pub fn cookies(&self, host: &str) -> Vec<&str> {
        let of_host = self.cookies.iter().filter(|cookie| cookie.host == host);
        of_host.map(|cookie| cookie.name.as_str()).collect()
    }

    /// Puts a cookie there, as an attacker might.
    pub fn plant(&mut self, host: &str, name: &str, value: &str) {
        let cookie = Cookie {
            host: host.to_owned(),
            path: "/".to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        self.keep(cookie);
    }

    /// Sends a request with the cookies that belong to it, and keeps those of the answer.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    pub fn send(&mut self, method: &str, url: &str, form: Option<&str>, fields: &[(&str, &str)]) -> Response {
        let (host, port, target) = taken_apart(url);
        let mut request = match form {
            Some(form) => {
                Request::post(target, form).with("Content-Type", "application/x-www-form-urlencoded")
            }
            None => Request::new(method, target),
        };
        request = request.with("Host", &format!("{host}:{port}")).with("Connection", "close");
        for (name, value) in fields {
            request = request.with(name, value);
        }
        let path = target.split('?').next().unwrap_or(target);
        let mine = self.cookies.iter().filter(|cookie| cookie.host == host && is_below(path, &cookie.path));
        let pairs: Vec<String> = mine.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        if !pairs.is_empty() {
            request = request.with("Cookie", &pairs.join("; "));
        }
        let response = request.send(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        for (_, set) in response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")) {
            self.set(host, set);
        }
        response
    }

    /// RFC 6265 section 5.3, as far as it matters here.
    fn set(&mut self, host: &str, set: &str) {
        let mut parts = set.split(';').map(str::trim);
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a cookie has a name");
        let mut cookie = Cookie {
            host: host.to_owned(),
            path: "/".to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let mut is_gone = false;
        for attribute in parts {
            match attribute.split_once('=') {
                Some((name, path)) if name.eq_ignore_ascii_case("path") => path.clone_into(&mut cookie.path),
                Some((name, "0")) if name.eq_ignore_ascii_case("max-age") => is_gone = true,
                Some((name, date)) if name.eq_ignore_ascii_case("expires") => {
                    is_gone |= date.contains("1970")
                }
                _ => {}
            }
        }
        match is_gone {
            true => self.cookies.retain(|kept| !is_same(kept, &cookie)),
            false => self.keep(cookie),
        }
    }

    fn keep(&mut self, cookie: Cookie) {
        self.cookies.retain(|kept| !is_same(kept, &cookie));
        self.cookies.push(cookie);
    }
}

fn is_same(one: &Cookie, other: &Cookie) -> bool {
    (&one.host, &one.path, &one.name) == (&other.host, &other.path, &other.name)
}

fn navigation(site: &str) -> [(&str, &str); 5] {
    [
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Site", site),
        ("Sec-Fetch-User", "?1"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ]
}

fn is_below(path: &str, of_cookie: &str) -> bool {
    path.strip_prefix(of_cookie.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Host, port, and path with query.
fn taken_apart(url: &str) -> (&str, u16, &str) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("no address of HTTP: {url}"));
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, target) = rest.split_at(slash);
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let target = target.split('#').next().unwrap_or(target);
    (host, port.parse().expect("a port"), if target.is_empty() { "/" } else { target })
}

fn resolved(base: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let (host, port, target) = taken_apart(base);
    match location.strip_prefix('/') {
        Some(_) => format!("http://{host}:{port}{location}"),
        None => {
            let folder = &target[..=target.rfind('/').unwrap_or(0)];
            format!("http://{host}:{port}{folder}{location}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_kept_by_host_and_path_until_they_are_taken_away() {
        let mut browser = Browser::new();
        browser.set("a", "x=1; Path=/; HttpOnly");
        browser.set("a", "y=2; Path=/deep");
        browser.set("b", "z=3");
        assert_eq!(browser.cookies("a"), ["x", "y"]);
        browser.set("a", "x=4");
        assert_eq!(browser.cookie("a", "x"), Some("4"));
        browser.set("a", "x=; Max-Age=0; Path=/");
        assert_eq!(browser.cookies("a"), ["y"]);
        assert!(is_below("/deep/er", "/deep") && is_below("/deep", "/deep") && is_below("/x", "/"));
        assert!(!is_below("/deeper", "/deep"));
    }

    #[test]
    fn an_address_is_taken_apart_and_a_redirect_resolved() {
        assert_eq!(taken_apart("http://a:8080/b?c=d#e"), ("a", 8080, "/b?c=d"));
        assert_eq!(taken_apart("http://a"), ("a", 80, "/"));
        assert_eq!(resolved("http://a:8080/b/c?d", "/x"), "http://a:8080/x");
        assert_eq!(resolved("http://a:8080/b/c?d", "x"), "http://a:8080/b/x");
        assert_eq!(resolved("http://a:8080/b", "http://c/d"), "http://c/d");
    }
}
