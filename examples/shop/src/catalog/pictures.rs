//! Pictures, drawn rather than stored: each is a small SVG made of a few shapes, on a backdrop of its own colour.
//!
//! Only presentation attributes are used, so the strictest content security policy lets them through.

use std::fmt::Write;

const TERRACOTTA: &str = "#c8643c";
const CLAY_DARK: &str = "#a34d2b";
const LEAF: &str = "#4f7f52";
const LEAF_DARK: &str = "#35603f";
const WOOD: &str = "#b98352";
const WOOD_DARK: &str = "#8d5f39";
const STEEL: &str = "#5d6b70";
const GLOW: &str = "#ffd98a";

/// The picture of a product, 320 by 240, or `None` for a product nobody has drawn.
pub(crate) fn draw(id: &str) -> Option<String> {
    let (backdrop, shapes) = match id {
        "olive-tree" => ("#dfe6cf", olive_tree()),
        "lemon-tree" => ("#e7ecd0", lemon_tree()),
        "lavender" => ("#e6def0", stalks(LEAF, "#8a6fb8")),
        "rosemary" => ("#d9e8dc", stalks(LEAF_DARK, "#6b9a76")),
        "geranium" => ("#f6dcd6", geranium()),
        "monstera" => ("#d5e6da", monstera()),
        "barrel-cactus" => ("#f3e6c8", cactus()),
        "jasmine" => ("#dceadf", jasmine()),
        "terracotta-pot" => ("#f5ddcb", pot(100.0, 84.0, 120.0, 116.0, TERRACOTTA, CLAY_DARK)),
        "glazed-bowl" => ("#d3e2ee", bowl()),
        "zinc-trough" => ("#e0e5e6", trough()),
        "hanging-basket" => ("#e9e2d3", basket()),
        "string-lights" => ("#2f3d52", string_lights()),
        "paper-lantern" => ("#3a3550", paper_lantern()),
        "storm-lantern" => ("#33414a", storm_lantern()),
        "solar-stake" => ("#2e4440", solar_stakes()),
        "folding-chair" => ("#f1e3d0", chair()),
        "bistro-table" => ("#dde6e3", table()),
        "parasol" => ("#d6e8ee", parasol()),
        "cedar-bench" => ("#f0e0cd", bench()),
        "watering-can" => ("#d8e7dc", watering_can()),
        "bird-feeder" => ("#dbe8ef", bird_feeder()),
        "outdoor-rug" => ("#efe2d6", rug()),
        "garden-gnome" => ("#e2e8d4", gnome()),
        _ => return None,
    };
    Some(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 240" width="640" height="480" role="img">
<rect width="320" height="240" fill="{backdrop}"/>
<circle cx="258" cy="52" r="86" fill="#ffffff" opacity=".16"/>
<ellipse cx="160" cy="208" rx="112" ry="11" fill="#1d2a22" opacity=".14"/>
{shapes}</svg>
"##
    ))
}

fn rect(x: f64, y: f64, w: f64, h: f64, radius: f64, fill: &str) -> String {
    format!(r#"<rect x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" rx="{radius:.1}" fill="{fill}"/>"#)
}

fn circle(x: f64, y: f64, r: f64, fill: &str) -> String {
    format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{r:.1}" fill="{fill}"/>"#)
}

fn path(d: &str, fill: &str) -> String {
    format!(r#"<path d="{d}" fill="{fill}"/>"#)
}

fn line(d: &str, stroke: &str, width: f64) -> String {
    format!(
        r#"<path d="{d}" fill="none" stroke="{stroke}" stroke-width="{width}" stroke-linecap="round" stroke-linejoin="round"/>"#
    )
}

/// An ellipse turned by `degrees`: a leaf.
fn leaf(x: f64, y: f64, rx: f64, ry: f64, degrees: f64, fill: &str) -> String {
    format!(
        r#"<ellipse cx="{x:.1}" cy="{y:.1}" rx="{rx:.1}" ry="{ry:.1}" fill="{fill}" transform="rotate({degrees:.0} {x:.1} {y:.1})"/>"#
    )
}

/// A pot: a trapezoid with a rim and a shine.
fn pot(x: f64, y: f64, w: f64, h: f64, fill: &str, rim: &str) -> String {
    let (left, right, bottom) = (x + w * 0.17, x + w * 0.83, y + h);
    let body = format!(
        "M{:.1} {y:.1}L{:.1} {y:.1}L{right:.1} {bottom:.1}L{left:.1} {bottom:.1}Z",
        x + 4.0,
        x + w - 4.0
    );
    let shine = format!("M{:.1} {:.1}L{:.1} {:.1}", x + w * 0.24, y + h * 0.3, x + w * 0.29, y + h * 0.8);
    path(&body, fill)
        + &rect(x - 4.0, y - 4.0, w + 8.0, h * 0.2, 4.0, rim)
        + &format!(
            r##"<path d="{shine}" stroke="#fff" stroke-opacity=".28" stroke-width="5" stroke-linecap="round"/>"##
        )
}

fn small_pot() -> String {
    pot(122.0, 152.0, 76.0, 56.0, TERRACOTTA, CLAY_DARK)
}

/// Points spread evenly but not regularly over a disc (Vogel's sunflower): x, y, and the angle in degrees.
fn sunflower(count: u32, cx: f64, cy: f64, radius: f64) -> impl Iterator<Item = (f64, f64, f64)> {
    (0..count).map(move |i| {
        let angle = f64::from(i) * 137.508_f64;
        let r = radius * (f64::from(i) / f64::from(count)).sqrt();
        let radians = angle.to_radians();
        (cx + r * radians.cos() * 1.15, cy + r * radians.sin() * 0.9, angle % 360.0)
    })
}

fn canopy(leaves: &[&str]) -> String {
    let mut shapes = line("M160 156C158 138 164 128 160 104", WOOD_DARK, 8.0);
    for (i, (x, y, angle)) in sunflower(110, 160.0, 84.0, 58.0).enumerate() {
        shapes += &leaf(x, y, 11.0, 4.6, angle, leaves[i % leaves.len()]);
    }
    shapes + &small_pot()
}

fn olive_tree() -> String {
    let mut shapes = canopy(&["#8fa382", "#6f8a68", "#a9b99a"]);
    for (x, y, _) in sunflower(9, 160.0, 84.0, 46.0) {
        shapes += &circle(x, y + 3.0, 3.6, "#3e4a37");
    }
    shapes
}

fn lemon_tree() -> String {
    let mut shapes = canopy(&["#5c9453", LEAF, "#7bb06a"]);
    for (x, y, angle) in sunflower(10, 160.0, 86.0, 52.0) {
        shapes += &leaf(x, y, 9.5, 7.5, angle / 6.0, "#f5c93a");
    }
    shapes
}

fn stalks(green: &str, blossom: &str) -> String {
    let mut shapes = String::new();
    for i in -5..=5_i32 {
        let lean = f64::from(i) * 12.0;
        let top = 52.0 + f64::from(i.abs()) * 6.0 + f64::from(i.rem_euclid(2)) * 9.0;
        let foot = 160.0 + f64::from(i) * 4.0;
        let tip = 160.0 + lean;
        shapes += &line(&format!("M{foot:.1} 156Q{foot:.1} 110 {tip:.1} {top:.1}"), green, 2.6);
        for k in 0..7 {
            let t = f64::from(k) * 6.5;
            let side = if k % 2 == 0 { -3.2 } else { 3.2 };
            shapes += &leaf(tip - lean * 0.012 * t + side, top + t, 4.4, 3.4, lean, blossom);
        }
    }
    shapes + &small_pot()
}

fn geranium() -> String {
    let mut shapes = String::new();
    for (x, y, angle) in sunflower(30, 160.0, 122.0, 56.0) {
        shapes += &leaf(x, y, 13.0, 11.0, angle, if angle < 180.0 { LEAF } else { LEAF_DARK });
    }
    for (cx, cy) in [(118.0, 82.0), (160.0, 60.0), (204.0, 84.0), (142.0, 108.0), (184.0, 112.0)] {
        for (x, y, _) in sunflower(14, cx, cy, 18.0) {
            shapes += &circle(x, y, 5.6, if x > cx { "#d8433f" } else { "#b92f36" });
        }
    }
    shapes + &small_pot()
}

fn monstera() -> String {
    let mut shapes = String::new();
    let leaves = [(-62.0, 96.0), (-34.0, 58.0), (0.0, 44.0), (36.0, 60.0), (64.0, 98.0)];
    for (dx, y) in leaves {
        let x = 160.0 + dx;
        shapes += &line(&format!("M160 158Q{:.1} 126 {x:.1} {y:.1}", 160.0 + dx * 0.2), LEAF_DARK, 3.6);
        let tilt = dx * 0.7;
        let _ = write!(
            shapes,
            r##"<g transform="translate({x:.1} {y:.1}) rotate({tilt:.0})"><path d="M0 30C-34 16-34-22 0-34C34-22 34 16 0 30Z" fill="{LEAF}"/><path d="M0 28V-32M0 12L-27 4M0 12L27 4M0-6L-28-10M0-6L28-10" stroke="#d5e6da" stroke-width="3" stroke-linecap="round"/></g>"##
        );
    }
    shapes + &small_pot()
}

fn cactus() -> String {
    let mut shapes = leaf(160.0, 112.0, 56.0, 58.0, 0.0, "#5f9160");
    for offset in [-38.0, -20.0, 0.0, 20.0, 38.0] {
        let bend = offset * 1.45;
        let rib = format!("M160 55Q{:.1} 112 160 170", 160.0 + bend);
        shapes += &line(&rib, "#3f7049", 2.4);
        for k in 0..5 {
            let y = 76.0 + f64::from(k) * 18.0;
            shapes +=
                &circle(160.0 + offset * (1.0 - (y - 112.0).powi(2) / 5000.0) * 0.74, y, 1.9, "#f7efd5");
        }
    }
    for angle in [-50.0, -25.0, 0.0, 25.0, 50.0_f64] {
        let x = 160.0 + angle.to_radians().sin() * 15.0;
        shapes += &leaf(x, 53.0 - angle.to_radians().cos() * 8.0, 5.0, 12.0, angle, "#e5719a");
    }
    shapes + &circle(160.0, 52.0, 5.0, "#f8d465") + &small_pot()
}

fn jasmine() -> String {
    let mut shapes = String::new();
    for x in [120.0, 146.0, 174.0, 200.0] {
        shapes += &rect(x - 2.0, 30.0, 4.0, 128.0, 2.0, WOOD);
    }
    for y in [48.0, 78.0, 108.0, 138.0] {
        shapes += &rect(108.0, y - 2.0, 104.0, 4.0, 2.0, WOOD);
    }
    shapes += &line("M160 158C110 136 212 116 150 92C112 76 196 60 168 32", LEAF_DARK, 3.4);
    for (x, y, angle) in sunflower(46, 160.0, 92.0, 54.0) {
        shapes += &leaf(x, y, 8.5, 4.4, angle, LEAF);
    }
    for (x, y, _) in sunflower(17, 160.0, 88.0, 54.0) {
        for k in 0..5 {
            let turn = (f64::from(k) * 72.0).to_radians();
            shapes += &circle(x + turn.cos() * 4.4, y + turn.sin() * 4.4, 3.3, "#ffffff");
        }
        shapes += &circle(x, y, 2.2, "#f3cf66");
    }
    shapes + &small_pot()
}

fn bowl() -> String {
    path("M78 122H242C242 176 206 206 160 206C114 206 78 176 78 122Z", "#2f6690")
        + &leaf(160.0, 122.0, 82.0, 15.0, 0.0, "#1f4a6c")
        + &leaf(160.0, 124.0, 70.0, 10.0, 0.0, "#16374f")
        + &line("M100 146C106 166 118 180 132 188", "#8fbad8", 5.0)
        + &line("M84 140C120 154 200 154 236 140", "#4d86b0", 3.0)
}

fn trough() -> String {
    let mut shapes =
        path("M54 134H266L254 204H66Z", "#9fadb3") + &rect(48.0, 126.0, 224.0, 14.0, 5.0, "#7f8f96");
    for i in 0..6 {
        let x = 76.0 + f64::from(i) * 33.5;
        shapes += &line(&format!("M{x:.1} 128Q{:.1} 100 {x:.1} 82", x - 5.0), LEAF, 3.4);
        shapes += &leaf(x + 8.0, 112.0, 11.0, 4.0, -52.0, LEAF_DARK);
        let petals = ["#d8564c", "#f0b43c", "#d77ba5"][i as usize % 3];
        shapes += &path(
            &format!(
                "M{:.1} 62Q{x:.1} 76 {:.1} 62L{:.1} 80Q{x:.1} 94 {:.1} 80Z",
                x - 9.0,
                x + 9.0,
                x + 9.0,
                x - 9.0
            ),
            petals,
        );
    }
    shapes + &line("M84 158H236M88 178H232", "#c4ced2", 3.0)
}

fn basket() -> String {
    let mut shapes = line("M160 16L96 112M160 16L224 112M160 16V112", STEEL, 2.4);
    for (x, y, angle) in sunflower(40, 160.0, 112.0, 64.0) {
        shapes += &leaf(x, y + 4.0, 12.0, 5.0, angle, if angle > 170.0 { LEAF } else { LEAF_DARK });
    }
    for (x, y, _) in sunflower(13, 160.0, 104.0, 58.0) {
        shapes += &(circle(x, y, 7.0, "#e58fb1") + &circle(x, y, 2.6, "#fbe7a8"));
    }
    shapes
        + &path("M90 122H230C228 172 196 196 160 196C124 196 92 172 90 122Z", WOOD)
        + &line(
            "M104 140C130 152 190 152 216 140M112 160C136 172 184 172 208 160M128 178C146 186 174 186 192 178",
            WOOD_DARK,
            3.0,
        )
}

/// A soft glow around a light.
fn glow(x: f64, y: f64, r: f64) -> String {
    let mut shapes = String::new();
    for (share, opacity) in [(1.0, 0.10), (0.7, 0.16), (0.42, 0.26)] {
        let _ = write!(
            shapes,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{:.1}" fill="{GLOW}" opacity="{opacity}"/>"#,
            r * share
        );
    }
    shapes
}

fn string_lights() -> String {
    let mut shapes = line("M-10 46Q80 116 160 70T330 60", "#141c28", 3.4)
        + &line("M-10 120Q90 190 180 142T330 150", "#141c28", 3.4);
    let bulbs = [(22.0, 70.0), (72.0, 88.0), (122.0, 85.0), (172.0, 63.0), (222.0, 46.0), (276.0, 47.0)];
    for (x, y) in bulbs.into_iter().chain(bulbs.map(|(x, y)| (x + 12.0, y + 76.0))) {
        shapes += &glow(x, y + 18.0, 34.0);
        shapes += &rect(x - 4.0, y - 1.0, 8.0, 10.0, 2.0, "#141c28");
        shapes += &leaf(x, y + 19.0, 8.6, 11.0, 0.0, "#ffe9b8");
    }
    shapes
}

fn paper_lantern() -> String {
    let mut shapes = line("M160 0V48", "#191628", 3.0) + &glow(160.0, 116.0, 120.0);
    shapes += &leaf(160.0, 116.0, 76.0, 66.0, 0.0, "#ffe3ab");
    for (y, half) in [(70.0, 54.0), (93.0, 71.0), (116.0, 76.0), (139.0, 71.0), (162.0, 54.0)] {
        let (left, right) = (160.0 - half, 160.0 + half);
        shapes += &line(&format!("M{left:.1} {y:.1}Q160 {:.1} {right:.1} {y:.1}", y + 9.0), "#d99b4e", 2.0);
    }
    shapes
        + &rect(134.0, 46.0, 52.0, 10.0, 4.0, "#8a4f33")
        + &rect(138.0, 177.0, 44.0, 9.0, 4.0, "#8a4f33")
        + &line("M160 186V206", "#d99b4e", 3.0)
}

fn storm_lantern() -> String {
    glow(160.0, 128.0, 104.0)
        + &line("M118 92C104 22 216 22 202 92", "#c0842f", 5.0)
        + &path("M124 96H196L206 164H114Z", "#f4e3bd")
        + &leaf(160.0, 138.0, 10.0, 22.0, 0.0, "#f29f3d")
        + &leaf(160.0, 146.0, 5.4, 12.0, 0.0, "#fff3cf")
        + &rect(120.0, 84.0, 80.0, 14.0, 6.0, "#c0842f")
        + &rect(106.0, 162.0, 108.0, 14.0, 6.0, "#c0842f")
        + &rect(118.0, 174.0, 84.0, 30.0, 8.0, "#9c6824")
        + &line("M118 96L110 164M202 96L210 164", "#c0842f", 4.0)
}

fn solar_stakes() -> String {
    let mut shapes = String::new();
    for (x, y) in [(64.0, 96.0), (128.0, 76.0), (192.0, 92.0), (256.0, 70.0)] {
        shapes += &(glow(x, y, 46.0) + &rect(x - 2.5, y + 10.0, 5.0, 200.0 - y, 2.0, "#9fb0ac"));
        shapes += &(rect(x - 13.0, y - 12.0, 26.0, 26.0, 5.0, "#ffeec2")
            + &rect(x - 18.0, y - 20.0, 36.0, 9.0, 4.0, "#15211f"));
        shapes += &leaf(x + 9.0, 200.0, 16.0, 4.0, -20.0, "#4d7a64");
    }
    shapes
}

fn chair() -> String {
    let mut shapes = line("M118 46L196 204M202 128L128 204M112 128H208", STEEL, 6.0);
    for i in 0..4 {
        let (x, y) = (110.0 + f64::from(i) * 9.0, 50.0 + f64::from(i) * 18.0);
        shapes += &rect(x, y, 62.0, 11.0, 5.0, if i % 2 == 0 { WOOD } else { "#c99765" });
    }
    for i in 0..3 {
        shapes += &rect(104.0 + f64::from(i) * 3.0, 122.0 + f64::from(i) * 9.0, 112.0, 8.0, 4.0, WOOD_DARK);
    }
    shapes
}

fn table() -> String {
    line("M160 96V190M118 206C122 186 198 186 202 206", STEEL, 8.0)
        + &leaf(160.0, 94.0, 94.0, 16.0, 0.0, "#2f5d50")
        + &leaf(160.0, 89.0, 94.0, 15.0, 0.0, "#3f7a69")
        + &rect(112.0, 62.0, 28.0, 24.0, 6.0, "#fffaf0")
        + &line("M140 68C152 66 152 80 140 79", "#fffaf0", 4.0)
        + &line("M120 54C116 46 126 44 122 36M130 54C126 46 136 44 132 36", "#ffffff", 2.4)
        + &leaf(126.0, 87.0, 22.0, 4.0, 0.0, "#f3e6d2")
        + &path("M186 78L226 74L234 88L192 92Z", "#fffdf7")
        + &line("M194 82L222 79M197 87L224 84", "#b7b1a4", 2.0)
}

fn parasol() -> String {
    rect(157.0, 44.0, 6.0, 156.0, 3.0, WOOD_DARK)
        + &rect(124.0, 198.0, 72.0, 10.0, 5.0, STEEL)
        + &path(
            "M48 112C60 58 112 34 160 34C208 34 260 58 272 112Q254 100 235 112Q216 100 198 112Q179 100 160 112Q141 100 122 112Q104 100 85 112Q66 100 48 112Z",
            "#f7efe1",
        )
        + &path("M122 112C124 74 140 44 160 34C112 34 60 58 48 112Q66 100 85 112Q104 100 122 112Z", "#d9694a")
        + &path(
            "M198 112C196 74 180 44 160 34C208 34 260 58 272 112Q254 100 235 112Q216 100 198 112Z",
            "#d9694a",
        )
        + &circle(160.0, 32.0, 5.0, WOOD_DARK)
}

fn bench() -> String {
    let mut shapes = line("M74 206V82M246 206V82M92 204V150M228 204V150", WOOD_DARK, 9.0);
    for (i, fill) in [WOOD, "#c99765", WOOD].iter().enumerate() {
        shapes += &rect(62.0, 78.0 + i as f64 * 21.0, 196.0, 15.0, 6.0, fill);
    }
    shapes
        + &rect(54.0, 146.0, 212.0, 14.0, 6.0, "#c99765")
        + &rect(54.0, 160.0, 212.0, 7.0, 3.0, WOOD_DARK)
        + &rect(84.0, 118.0, 44.0, 32.0, 10.0, "#d9694a")
        + &line("M94 130H118M94 138H112", "#f3c4b2", 2.4)
}

fn watering_can() -> String {
    line("M116 96C116 44 210 44 208 98", LEAF_DARK, 8.0)
        + &line("M212 116C264 112 262 178 208 176", LEAF_DARK, 8.0)
        + &path("M112 168L52 92L64 82L120 128Z", LEAF)
        + &path("M42 98L70 70L78 78L52 106Z", "#c9983f")
        + &path("M106 96H214L222 204H98Z", LEAF)
        + &rect(100.0, 90.0, 120.0, 12.0, 6.0, LEAF_DARK)
        + &line("M122 122L118 184", "#9cc29c", 6.0)
        + &line("M40 114L32 132M52 122L48 142M30 102L18 114", "#6aa5c4", 3.4)
}

fn bird_feeder() -> String {
    rect(156.0, 168.0, 8.0, 40.0, 2.0, WOOD_DARK)
        + &rect(110.0, 104.0, 9.0, 56.0, 2.0, WOOD_DARK)
        + &rect(201.0, 104.0, 9.0, 56.0, 2.0, WOOD_DARK)
        + &rect(124.0, 118.0, 72.0, 42.0, 4.0, "#f0d9a0")
        + &rect(84.0, 158.0, 152.0, 13.0, 5.0, WOOD)
        + &path("M160 40L252 108H68Z", "#a34d2b")
        + &path("M160 40L252 108H232L160 56L88 108H68Z", "#c8643c")
        + &leaf(226.0, 146.0, 17.0, 12.0, -16.0, "#5c88a8")
        + &circle(240.0, 135.0, 8.6, "#5c88a8")
        + &path("M247 133L257 136L247 139Z", "#e0a33d")
        + &circle(242.0, 133.0, 1.7, "#14202a")
        + &path("M212 150L192 142L210 142Z", "#3f6785")
        + &leaf(228.0, 150.0, 10.0, 6.0, -16.0, "#e7c9a6")
}

fn rug() -> String {
    let mut shapes = String::from(r#"<g transform="translate(160 124) scale(1 .72) rotate(-14)">"#);
    let stripes = ["#c8643c", "#f4ead9", "#35603f", "#f4ead9", "#d99b4e", "#f4ead9", "#2f6690", "#f4ead9"];
    for (i, fill) in stripes.iter().enumerate() {
        shapes += &rect(-112.0 + i as f64 * 28.0, -78.0, 28.2, 156.0, 0.0, fill);
    }
    for i in 0..20 {
        let y = -74.0 + f64::from(i) * 7.8;
        shapes += &line(&format!("M-112 {y:.1}H-122M112 {y:.1}H122"), "#d6c6ae", 2.0);
    }
    shapes + &line("M-112 -46H112M-112 46H112", "#ffffff", 3.0) + "</g>"
}

fn gnome() -> String {
    path("M116 204C112 160 130 132 160 132C190 132 208 160 204 204Z", "#3d6b8c")
        + &path("M160 26C182 60 196 92 200 112H120C124 92 138 60 160 26Z", "#c2413a")
        + &leaf(160.0, 114.0, 42.0, 10.0, 0.0, "#a3332e")
        + &circle(160.0, 126.0, 26.0, "#f1c9a5")
        + &path(
            "M130 128C128 176 146 192 160 196C174 192 192 176 190 128C176 146 144 146 130 128Z",
            "#fdf8ee",
        )
        + &leaf(160.0, 131.0, 8.0, 7.0, 0.0, "#e0a184")
        + &circle(149.0, 120.0, 2.6, "#2b2b2b")
        + &circle(171.0, 120.0, 2.6, "#2b2b2b")
        + &line("M143 113L154 114M166 114L177 113", "#d9cfc0", 3.0)
        + &leaf(140.0, 204.0, 20.0, 7.0, 0.0, "#3a3029")
        + &leaf(180.0, 204.0, 20.0, 7.0, 0.0, "#3a3029")
}
