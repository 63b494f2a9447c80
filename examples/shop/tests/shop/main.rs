//! The shop as real processes on free ports, seen from outside: buying, following, breaking and stopping it.

mod http;
mod processes;

use serde_json::{Value, json};

use http::{Browser, Events, Upload, WebSocket, begin, expect_silence, send, told};
use processes::{Service, Shop};

/// Long enough that no order moves on during a test that does not want it to.
const STANDSTILL: (&str, &str) = ("SHOP_PACE", "60m");

fn order_body(lines: &Value, card: &str) -> String {
    json!({ "lines": lines, "name": "Ada", "address": "12 Terrace Road", "card": card }).to_string()
}

/// Sends an order to the orders service at `port`, as a gateway does for the bearer of `token`.
fn post_order(port: u16, token: &str, key: &str, body: &str) -> http::Reply {
    let told = told(token);
    let mut headers = vec![("idempotency-key", key), ("content-type", "application/json")];
    headers.extend(told.iter().map(|(name, value)| (*name, value.as_str())));
    send(port, "POST", "/orders", &headers, body.as_bytes())
}

/// Asks the orders service at `port` for `path` in the same way.
fn get_as(port: u16, token: &str, path: &str) -> http::Reply {
    let told = told(token);
    let headers: Vec<(&str, &str)> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
    send(port, "GET", path, &headers, b"")
}

fn register(shop: &Shop) -> String {
    register_as(shop, "ada@example.com")
}

fn register_as(shop: &Shop, email: &str) -> String {
    let body = json!({ "name": "Ada", "email": email, "password": "correct horse" }).to_string();
    let headers = [("content-type", "application/json")];
    let reply = send(shop.auth.port, "POST", "/register", &headers, body.as_bytes());
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_person_registers_fills_a_cart_buys_and_follows_the_order_until_it_is_there() {
    let shop = Shop::start(&[("SHOP_PACE", "20ms")]);
    let mut browser = Browser::new(shop.web.port);
    assert!(browser.get("/").text().contains("Olive tree"));
    assert_eq!(browser.get("/checkout").header("location"), Some("/login?next=%2Fcheckout"));
    let form = "name=Ada&email=Ada@Example.com&password=correct+horse&next=/checkout";
    assert_eq!(browser.post("/register", form).header("location"), Some("/checkout"));
    browser.post("/cart", "product=olive-tree");
    browser.post("/cart", "product=lavender&quantity=2");
    browser.post("/cart", "product=lavender&set=3");
    assert!(browser.get("/cart").text().contains("€95.70"));

    let key = browser.get("/checkout").between("name=\"key\" value=\"", "\"");
    let form = format!("key={key}&name=Ada&address=12+Terrace+Road&card=4242+4242+4242+4242");
    let placed = browser.post("/checkout", &form);
    assert_eq!(placed.status, 303, "{}", placed.text());
    let order = placed.header("location").expect("a place to go").to_owned();
    assert!(browser.get(&order).text().contains("Thank you, Ada!"));
    assert!(browser.get("/orders").text().contains("Lavender, Olive tree"));
    assert!(browser.get("/cart").text().contains("Nothing in here yet."));

    let mut events = Events::open(&browser, &format!("{order}/events"));
    let told: Vec<String> = std::iter::from_fn(|| events.next()).collect();
    assert_eq!(told.last().map(String::as_str), Some("done"));
    assert!(Browser::new(shop.web.port).get(&order).header("location").is_some(), "only for its owner");
}

#[test]
fn an_order_sent_twice_to_different_instances_is_placed_and_charged_once() {
    let shop = Shop::start(&[STANDSTILL]);
    let second = shop.another("orders");
    let token = register(&shop);
    let body = order_body(&json!([{ "product": "olive-tree", "quantity": 2 }]), "4242424242424242");
    let ids: Vec<Value> = std::thread::scope(|scope| {
        let ports = [shop.orders.port, second.port, shop.orders.port, second.port];
        let (token, body) = (&token, &body);
        let threads = ports.map(|port| scope.spawn(move || post_order(port, token, "key-of-mine", body)));
        threads.map(|thread| thread.join().expect("no panic").json()["id"].clone()).to_vec()
    });
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let list = get_as(second.port, &token, "/orders").json();
    assert_eq!(list["orders"].as_array().map(Vec::len), Some(1));
    let charge = format!("/charges/by-key/{}", ids[0].as_str().expect("an id"));
    assert_eq!(send(shop.payments.port, "GET", &charge, &[], b"").json()["amount_cents"], 13_800);

    let other = order_body(&json!([{ "product": "lavender", "quantity": 1 }]), "4242424242424242");
    let refused = post_order(second.port, &token, "key-of-mine", &other);
    assert_eq!((refused.status, refused.header("content-type")), (409, Some("application/problem+json")));
}

#[test]
fn a_declined_card_is_told_and_another_one_works() {
    let shop = Shop::start(&[STANDSTILL]);
    let mut browser = Browser::new(shop.web.port);
    browser.post("/register", "name=Ada&email=ada@example.com&password=correct+horse");
    browser.post("/cart", "product=garden-gnome&quantity=2");
    let key = browser.get("/checkout").between("name=\"key\" value=\"", "\"");
    let pay = |key: &str, card: &str| format!("key={key}&name=Ada&address=Here&card={card}");
    let declined = browser.post("/checkout", &pay(&key, "4000000000000002"));
    assert_eq!(declined.status, 402);
    assert!(declined.text().contains("not enough money"));
    let fresh = declined.between("name=\"key\" value=\"", "\"");
    assert_ne!(fresh, key, "a new attempt is a new order");
    assert_eq!(browser.post("/checkout", &pay(&fresh, "4242424242424242")).status, 303);
}

#[test]
fn while_the_bank_is_away_cart_and_order_are_kept_and_then_paid_once() {
    let shop = Shop::start(&[STANDSTILL]);
    let bank = |query: &str| send(shop.payments.port, "POST", &format!("/switch{query}"), &[], b"").status;
    let mut browser = Browser::new(shop.web.port);
    browser.post("/register", "name=Ada&email=ada@example.com&password=correct+horse");
    browser.post("/cart", "product=lavender&quantity=2");
    let key = browser.get("/checkout").between("name=\"key\" value=\"", "\"");
    let form = format!("key={key}&name=Ada&address=12+Terrace+Road&card=4242+4242+4242+4242");

    assert_eq!(bank("?fail=100%&for=10m"), 200);
    for _ in 0..2 {
        let kept = browser.post("/checkout", &form);
        assert_eq!(kept.status, 202);
        assert_eq!(kept.between("name=\"key\" value=\"", "\""), key, "the next attempt is the same order");
        assert!(kept.text().contains("nothing was charged") && kept.text().contains("12 Terrace Road"));
    }
    assert!(browser.get("/cart").text().contains("Lavender"));
    assert!(browser.get("/orders").text().contains("placing"));

    assert_eq!(bank(""), 200);
    let paid = browser.post("/checkout", &form);
    assert_eq!(paid.status, 303, "{}", paid.text());
    assert!(browser.get("/orders").text().contains("paid"));
    let counted = send(shop.payments.port, "GET", "/metrics", &[], b"").text();
    assert!(counted.lines().any(|line| line == "shop_charges_made_total 1"), "{counted}");
}

#[test]
fn a_bank_that_charges_and_does_not_say_so_is_asked_again_and_charges_once() {
    let shop = Shop::start(&[STANDSTILL]);
    let port = shop.payments.port;
    let headers = [("idempotency-key", "order-of-mine"), ("content-type", "application/json")];
    let charge = br#"{"amount_cents": 500, "card": "4242424242424242"}"#;
    let counted = |name: &str| {
        let text = send(port, "GET", "/metrics", &[], b"").text();
        text.lines().any(|line| line == format!("{name} 1"))
    };
    assert_eq!(send(port, "POST", "/switch?mute=100%&for=10m", &[], b"").status, 200);
    let mut waiting = begin(port, "POST", "/charges", &headers, charge);
    while !counted("shop_charges_made_total") {}
    expect_silence(&mut waiting);
    drop(waiting);
    assert_eq!(send(port, "POST", "/switch", &[], b"").status, 200);
    assert_eq!(send(port, "POST", "/charges", &headers, charge).status, 200, "it was made before: not 201");
    assert!(counted("shop_charges_repeated_total"));
}

#[test]
fn nobody_sees_the_order_of_another_person() {
    let shop = Shop::start(&[STANDSTILL]);
    let (ada, eve) = (register(&shop), register_as(&shop, "eve@example.com"));
    let body = order_body(&json!([{ "product": "lavender", "quantity": 1 }]), "4242424242424242");
    let id = post_order(shop.orders.port, &ada, "key-of-mine", &body).json()["id"].clone();
    let path = format!("/orders/{}", id.as_str().expect("an id"));
    let status = |token: &str| get_as(shop.orders.port, token, &path).status;
    assert_eq!((status(&ada), status(&eve)), (200, 404));
}

#[test]
fn more_than_there_is_cannot_be_bought() {
    let shop = Shop::start(&[STANDSTILL]);
    let token = register(&shop);
    let body = order_body(&json!([{ "product": "garden-gnome", "quantity": 9 }]), "4242424242424242");
    let refused = post_order(shop.orders.port, &token, "key-of-mine", &body);
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["type"], "urn:shop:problem:sold-out");
}

#[test]
fn a_request_in_flight_is_finished_after_sigterm() {
    let mut shop = Shop::start(&[STANDSTILL]);
    let body = vec![7; 300_000];
    let mut upload = Upload::begin(shop.web.port, "/upload", body.len());
    upload.send(&body[..1000]);
    shop.web.terminate();
    shop.web.wait_for_event("stopping");
    upload.expect_patience();
    upload.send(&body[1000..]);
    let reply = upload.finish();
    assert_eq!((reply.status, &reply.json()["bytes"]), (201, &json!(300_000)));
    assert_eq!(shop.web.wait(), Some(0));
}

#[test]
fn the_ticker_counts_people_and_says_goodbye_when_its_instance_stops() {
    let mut shop = Shop::start(&[STANDSTILL]);
    let mut first = WebSocket::open(shop.web.port, "/live");
    let second = WebSocket::open(shop.web.port, "/live");
    while first.text()["people"] != 2 {}
    drop(second);
    while first.text()["people"] != 1 {}
    shop.web.terminate();
    assert_eq!(first.close_code(), 1001);
    assert_eq!(shop.web.wait(), Some(0));
}

#[test]
fn a_followed_order_is_told_to_come_back_when_its_instance_stops() {
    let mut shop = Shop::start(&[STANDSTILL]);
    let token = register(&shop);
    let body = order_body(&json!([{ "product": "lavender", "quantity": 1 }]), "4242424242424242");
    let id = post_order(shop.orders.port, &token, "key-of-mine", &body).json()["id"].clone();
    let mut browser = Browser::new(shop.web.port);
    browser.keep_cookie("session", &token);
    let mut events = Events::open(&browser, &format!("/orders/{}/events", id.as_str().expect("an id")));
    assert_eq!(events.next().as_deref(), Some("status"));
    shop.web.terminate();
    assert_eq!(events.next().as_deref(), Some("bye"));
    assert_eq!(events.next(), None);
    assert_eq!(shop.web.wait(), Some(0));
}

#[test]
fn an_instance_fails_when_told_to_and_gateways_cannot_tell_it() {
    let shop = Shop::start(&[STANDSTILL]);
    let port = shop.catalog.port;
    let get = |path: &str| send(port, "GET", path, &[], b"");
    assert_eq!(get("/products").status, 200);
    assert_eq!(send(port, "POST", "/switch?fail=100%", &[("via", "1.1 gateway")], b"").status, 403);
    assert_eq!(send(port, "POST", "/switch?fail=100%", &[("origin", "http://evil.test")], b"").status, 403);
    assert_eq!(send(port, "POST", "/switch?fail=30", &[], b"").status, 422);
    assert_eq!(get("/products").status, 200);

    assert_eq!(send(port, "POST", "/switch?fail=100%&for=10m", &[], b"").status, 200);
    assert_eq!((get("/products").status, get("/health").status), (503, 200));
    let page = send(shop.web.port, "GET", "/", &[], b"");
    assert_eq!((page.status, page.header("retry-after")), (503, Some("1")));
    assert!(page.text().contains("One moment, please"), "people get a page");
    send(port, "POST", "/switch?health=down&for=10m", &[], b"");
    assert_eq!((get("/products").status, get("/health").status), (200, 503));
    send(port, "POST", "/switch", &[], b"");
    assert_eq!((get("/products").status, get("/health").status), (200, 200));
}

#[test]
fn a_stopped_neighbour_is_told_as_a_page_and_is_missed_no_more_when_it_is_back() {
    let mut shop = Shop::start(&[STANDSTILL]);
    shop.catalog.terminate();
    assert_eq!(shop.catalog.wait(), Some(0));
    let page = send(shop.web.port, "GET", "/", &[], b"");
    assert_eq!(page.status, 503);
    assert!(page.text().contains("catalog service cannot be reached"));
    let port = shop.catalog.port.to_string();
    let _back: Service = shop.another_with("catalog", &[("PORT", &port)]);
    assert_eq!(send(shop.web.port, "GET", "/", &[], b"").status, 200);
}

#[test]
fn what_a_stranger_types_is_shown_as_text() {
    let shop = Shop::start(&[STANDSTILL]);
    let page = send(shop.web.port, "GET", "/?q=%3Cscript%3E", &[], b"");
    assert!(page.text().contains("&lt;script&gt;") && !page.text().contains("<script>"));
    let nobody = send(shop.orders.port, "GET", "/orders", &[], b"");
    assert_eq!(nobody.status, 422, "the gateway says whose orders");
}

#[test]
fn a_gateway_finds_what_it_needs_to_check_tokens() {
    let shop = Shop::start(&[STANDSTILL, ("SHOP_ISSUER", "http://shop.test")]);
    let get = |path: &str| send(shop.auth.port, "GET", path, &[], b"").json();
    let discovery = get("/.well-known/openid-configuration");
    assert_eq!(discovery["issuer"], "http://shop.test");
    assert_eq!(discovery["jwks_uri"], "http://shop.test/.well-known/jwks.json");
    assert_eq!(get("/.well-known/jwks.json")["keys"][0]["alg"], "ES256");
}

#[test]
fn every_answer_names_its_instance_and_what_is_known_is_not_sent_again() {
    let shop = Shop::start(&[STANDSTILL, ("TERRACE_INSTANCE", "shop-1")]);
    let first = send(shop.catalog.port, "GET", "/products/olive-tree", &[("x-request-id", "abc")], b"");
    assert_eq!((first.header("x-instance"), first.header("x-request-id")), (Some("shop-1"), Some("abc")));
    let tag = first.header("etag").expect("an entity tag");
    let again = send(shop.catalog.port, "GET", "/products/olive-tree", &[("if-none-match", tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
}
