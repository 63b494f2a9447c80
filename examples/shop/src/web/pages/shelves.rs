//! Catalogue, product, cart.

use maud::{Markup, html};

use super::{euros, layout};
use crate::catalog::{Page, Product, QUANTITY_MAX};
use crate::web::assets;
use crate::web::shelves::{Asked, CartLine};
use crate::web::visitor::Visitor;

/// Fewer than this on the shelf is worth saying.
const SCARCE: i64 = 10;

pub(in crate::web) fn catalogue(visitor: &Visitor, asked: &Asked, page: &Page) -> Markup {
    let is_home = asked.q.is_empty() && asked.category.is_empty() && page.page == 1;
    let title = match (asked.q.as_str(), asked.category.as_str()) {
        ("", "") => "Everything for your terrace".to_owned(),
        ("", category) => category.to_owned(),
        (q, _) => format!("Found for “{q}”"),
    };
    layout(
        Some(visitor),
        &title,
        &html! {
            @if is_home { (hero()) } @else { h1 { (title) } }
            (categories(asked, page))
            @if page.products.is_empty() {
                section.notice { p.lead { "Nothing on the shelves is called that." } p { a.button href="/" { "Show everything" } } }
            } @else {
                p.quiet { (page.total) " products" }
                (grid(&page.products))
                (paging(asked, page))
            }
        },
    )
}

fn hero() -> Markup {
    html! {
        section.hero {
            div {
                p.eyebrow { "Summer, extended" }
                h1 { "Make room for evenings outside" }
                p.lead { "Plants that forgive, chairs that stay, and light for when the sun has gone round the corner." }
                p { a.button href="#shelves" { "Look around" } }
            }
            img src=(assets::address("hero.svg")) width="640" height="420" alt="";
        }
    }
}

fn categories(asked: &Asked, page: &Page) -> Markup {
    let chip = |name: &str, label: &str| {
        let link = Asked { category: name.to_owned(), page: None, q: String::new() };
        html! {
            li { a href={ "/?" (link.query(1)) "#shelves" } aria-current=[(asked.category == name && asked.q.is_empty()).then_some("page")] { (label) } }
        }
    };
    html! {
        nav.chips #shelves aria-label="Categories" {
            ul { (chip("", "All")) @for name in &page.categories { (chip(name, name)) } }
        }
    }
}

fn grid(products: &[Product]) -> Markup {
    html! { ul.grid { @for product in products { (card(product)) } } }
}

fn card(product: &Product) -> Markup {
    html! {
        li.card {
            a.picture href={ "/products/" (product.id) } tabindex="-1" aria-hidden="true" {
                img src=(product.picture) width="640" height="480" loading="lazy" alt="";
            }
            div.about {
                h3 { a href={ "/products/" (product.id) } { (product.name) } }
                p.quiet.blurb { (product.blurb) }
                div.buy {
                    span.price { (euros(product.price_cents)) }
                    form method="post" action="/cart" {
                        input type="hidden" name="product" value=(product.id);
                        button.small disabled[product.stock == 0] aria-label={ "Add " (product.name) " to the cart" } {
                            @if product.stock == 0 { "Sold out" } @else { "Add" }
                        }
                    }
                }
            }
        }
    }
}

fn paging(asked: &Asked, page: &Page) -> Markup {
    html! {
        @if page.pages > 1 {
            nav.paging aria-label="Pages" {
                @if page.page > 1 { a rel="prev" href={ "/?" (asked.query(page.page - 1)) "#shelves" } { "← Previous" } } @else { span {} }
                span { "Page " (page.page) " of " (page.pages) }
                @if page.page < page.pages { a rel="next" href={ "/?" (asked.query(page.page + 1)) "#shelves" } { "Next →" } } @else { span {} }
            }
        }
    }
}

pub(in crate::web) fn product(
    visitor: &Visitor,
    product: &Product,
    others: &[Product],
    photos: &[String],
) -> Markup {
    layout(
        Some(visitor),
        &product.name,
        &html! {
            nav.crumbs aria-label="You are here" { a href="/" { "Shop" } " / " a href={ "/?category=" (product.category) } { (product.category) } }
            article.product {
                img.picture src=(product.picture) width="640" height="480" alt={ "Drawing: " (product.name) };
                div {
                    h1 { (product.name) }
                    p.price.large { (euros(product.price_cents)) }
                    p.lead { (product.blurb) }
                    (stock(product))
                    form.add method="post" action="/cart" {
                        input type="hidden" name="product" value=(product.id);
                        label for="quantity" { "How many" }
                        (quantity("quantity", "quantity", 1))
                        button disabled[product.stock == 0] { "Add to cart" }
                    }
                }
            }
            (customer_photos(visitor, product, photos))
            @if !others.is_empty() { section { h2 { "Goes well with it" } (grid(others)) } }
        },
    )
}

fn stock(product: &Product) -> Markup {
    html! {
        @match product.stock {
            0 => p.stock.none { "Sold out; the next delivery is on its way." },
            left if left < SCARCE => p.stock.few { "Only " (left) " left" },
            _ => p.stock.plenty { "In stock" },
        }
    }
}

fn quantity(id: &str, name: &str, chosen: u32) -> Markup {
    html! {
        select id=(id) name=(name) {
            @for n in 1..=QUANTITY_MAX { option value=(n) selected[n == chosen] { (n) } }
        }
    }
}

fn customer_photos(visitor: &Visitor, product: &Product, photos: &[String]) -> Markup {
    html! {
        section.photos {
            h2 { "On your terraces" }
            ul.gallery data-gallery {
                @for (n, photo) in photos.iter().enumerate() {
                    li { img src={ "/photos/" (photo) } loading="lazy" alt={ "Customer photo " (n + 1) ": " (product.name) }; }
                }
            }
            @if photos.is_empty() { p.quiet data-no-photos { "No photos yet. Yours would be the first." } }
            @if visitor.person().is_some() {
                form.upload data-upload={ "/upload?product=" (product.id) } {
                    label for="photo" { "Show yours (JPEG, PNG or WebP, up to 4 MB)" }
                    input #photo type="file" accept="image/jpeg,image/png,image/webp" required;
                    button { "Send photo" }
                    progress max="100" value="0" aria-label="Upload" hidden {}
                    p role="status" data-upload-status {}
                    noscript { p.quiet { "Sending photos needs JavaScript." } }
                }
            } @else {
                p { a href={ "/login?next=/products/" (product.id) } { "Sign in" } " to show yours." }
            }
        }
    }
}

pub(in crate::web) fn cart(visitor: &Visitor, lines: &[CartLine]) -> Markup {
    layout(
        Some(visitor),
        "Your cart",
        &html! {
            h1 { "Your cart" }
            @if lines.is_empty() {
                section.notice { p.lead { "Nothing in here yet." } p { a.button href="/" { "Look around" } } }
            } @else {
                div.columns {
                    ul.lines { @for line in lines { (cart_line(line)) } }
                    aside.panel aria-label="Total" {
                        p.total { span { "Total" } strong { (euros(total_cents(lines))) } }
                        p.quiet { "Delivery is on us, to every terrace." }
                        a.button.wide href="/checkout" { "To the checkout" }
                    }
                }
            }
        },
    )
}

fn cart_line(line: &CartLine) -> Markup {
    let product = &line.product;
    let id = format!("set-{}", product.id);
    html! {
        li {
            img src=(product.picture) width="120" height="90" alt="";
            div.grow {
                h2 { a href={ "/products/" (product.id) } { (product.name) } }
                p.quiet { (euros(product.price_cents)) " each" }
                @if product.stock < i64::from(line.quantity) { p.stock.none { "Only " (product.stock) " left just now" } }
                div.change {
                    form method="post" action="/cart" data-submit-on-change {
                        input type="hidden" name="product" value=(product.id);
                        label.hidden for=(id) { "How many: " (product.name) }
                        (quantity(&id, "set", line.quantity))
                        button.small.quiet-button { "Change" }
                    }
                    form method="post" action="/cart" {
                        input type="hidden" name="product" value=(product.id);
                        input type="hidden" name="set" value="0";
                        button.plain aria-label={ "Remove " (product.name) } { "Remove" }
                    }
                }
            }
            span.price { (euros(product.price_cents * i64::from(line.quantity))) }
        }
    }
}

/// What the cart costs at the prices shown.
pub(super) fn total_cents(lines: &[CartLine]) -> i64 {
    lines.iter().map(|line| line.product.price_cents * i64::from(line.quantity)).sum()
}
