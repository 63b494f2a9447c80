//! Paths (RFC 3986 section 6.2.2): brought to one form before a rule is matched, and sent on in that form.

use crate::rig::{Rig, respond};

fn rig() -> Rig {
    Rig::with(|setup| setup.routes.push(respond("admin", "/admin/*", 403, "not yours")))
}

#[test]
fn no_spelling_of_a_path_slips_past_its_rule() {
    let rig = rig();
    for target in [
        "/admin",
        "/admin/",
        "//admin/x",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/%2E/admin/",
        "/admin/./x",
        "/../admin",
        "/x/y/../../admin/",
        "///admin///x",
        "http://a/x/../admin",
        "/admin?x=/../y",
        "/admin/..%3f/",
    ] {
        let mut client = rig.client_that_sent(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().status(), 403, "{target}");
    }
    rig.origin.heard_nothing();
}

#[test]
fn a_path_that_two_would_read_differently_is_refused() {
    let rig = rig();
    for target in [
        "/x/..%2fadmin",
        "/x%2f..%2fadmin",
        "/x/..%5cadmin",
        "/x\\..\\admin",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/%00",
        "/x%00.png",
        "/%",
        "/%4",
        "/%zz",
        "/%2",
        "/a%u002fb",
    ] {
        rig.refuses(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    }
}

#[test]
fn the_origin_gets_the_form_that_was_matched() {
    let rig = Rig::new();
    for (target, sent) in [
        ("/a//b/./c/../d", "/a/b/d"),
        ("/%7euser/%41", "/~user/A"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/group%2fproject", "/group%2Fproject"),
        ("/a/b/..", "/a/"),
        ("/%25%32%65", "/%252e"),
        ("/x?a=/../b&c=%2e%2e//", "/x?a=/../b&c=%2e%2e//"),
        ("/x??y", "/x??y"),
        ("/x?", "/x?"),
    ] {
        let request = rig.passes(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert_eq!(request.line, format!("GET {sent} HTTP/1.1"), "{target}");
    }
}
