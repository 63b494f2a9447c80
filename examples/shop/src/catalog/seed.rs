//! The products that a new shop starts with.

use rusqlite::{Connection, params};

/// Id, name, category, price in cents, pieces the shelf holds, blurb.
type Seed = (&'static str, &'static str, &'static str, i64, i64, &'static str);

/// Enough that a load test does not sell it out between two deliveries.
const PLENTY: i64 = 20_000;
/// Few enough that a person can sell it out.
const FEW: i64 = 6;

#[rustfmt::skip]
const SEEDS: [Seed; 24] = [
    ("olive-tree", "Olive tree", "Plants", 6_900, PLENTY, "Silver leaves, slow years. Three feet of Provence in a pot, happy in full sun and forgiving of holidays."),
    ("string-lights", "String lights", "Light", 2_450, PLENTY, "Twenty warm bulbs on twelve metres of cable. The evening starts when you switch them on."),
    ("folding-chair", "Folding chair", "Furniture", 5_900, PLENTY, "Acacia slats on a steel frame. Folds flat, sits deep, and does not mind the rain."),
    ("terracotta-pot", "Terracotta pot", "Pots", 1_290, PLENTY, "Hand-thrown clay that breathes, so roots never stand wet. Gets better looking every summer."),
    ("lavender", "Lavender", "Plants", 890, PLENTY, "Bees love it, moths do not. Cut it after flowering and it comes back for a decade."),
    ("watering-can", "Watering can", "Extras", 3_200, PLENTY, "Nine litres, long neck, brass rose. Balanced so well that you will water more than you need."),
    ("bistro-table", "Bistro table", "Furniture", 8_900, PLENTY, "Room for two coffees, one newspaper and an elbow each. Powder-coated steel."),
    ("lemon-tree", "Lemon tree", "Plants", 5_450, PLENTY, "Blossom and fruit at the same time, scent included. Moves indoors for winter."),
    ("paper-lantern", "Paper lantern", "Light", 1_650, PLENTY, "Weatherproof paper and a soft flame that is really a lamp. Hang three, at three heights."),
    ("parasol", "Parasol", "Furniture", 12_900, PLENTY, "Three metres of shade that tilts with the sun. Fades evenly, like good jeans."),
    ("geranium", "Geranium", "Plants", 590, PLENTY, "The red that window boxes were invented for. Flowers from May until you forget to water."),
    ("glazed-bowl", "Glazed bowl", "Pots", 2_750, PLENTY, "Wide, low and deep blue. Made for succulents, borrowed for lemonade."),
    ("monstera", "Monstera", "Plants", 3_900, PLENTY, "Big holes, big presence. Likes the shady corner where nothing else would grow."),
    ("storm-lantern", "Storm lantern", "Light", 3_450, PLENTY, "Burns on when the wind picks up. Refill it, hang it, tell stories."),
    ("cedar-bench", "Cedar bench", "Furniture", 19_900, PLENTY, "Two people wide, one lifetime long. Smells of pencils on warm days."),
    ("rosemary", "Rosemary", "Plants", 690, PLENTY, "Potatoes, lamb, focaccia: it is nearer than the shop. Evergreen and hard to kill."),
    ("bird-feeder", "Bird feeder", "Extras", 2_190, PLENTY, "Larch, with a roof wide enough for two arguing sparrows. Opens for cleaning."),
    ("zinc-trough", "Zinc trough", "Pots", 4_350, PLENTY, "A metre of herbs or a whole row of tulips. Drains below, shines above."),
    ("barrel-cactus", "Barrel cactus", "Plants", 2_290, PLENTY, "Asks for nothing, flowers once a year, keeps its distance."),
    ("solar-stake", "Solar stakes", "Light", 2_990, PLENTY, "Set of four. They drink daylight and give it back along the path, six hours long."),
    ("outdoor-rug", "Outdoor rug", "Extras", 6_450, PLENTY, "Woven from old bottles, rinsed with a hose. Makes four tiles feel like a room."),
    ("jasmine", "Climbing jasmine", "Plants", 2_650, PLENTY, "Give it a trellis and a warm wall. In June the whole house will know."),
    ("hanging-basket", "Hanging basket", "Pots", 1_890, PLENTY, "Coconut fibre on a wire frame: flowers at eye level and the floor stays free."),
    ("garden-gnome", "Gnome, first edition", "Extras", 4_990, FEW, "Numbered, unsmiling, six at a time. When they are gone, wait for the next delivery."),
];

/// Puts the products on the shelves where they are missing; names and prices follow this list.
pub(crate) fn fill(db: &Connection) -> rusqlite::Result<()> {
    let positions = 1_i64..;
    for (position, (id, name, category, price_cents, shelf, blurb)) in positions.zip(SEEDS) {
        db.execute(
            "INSERT INTO products (position, id, name, category, blurb, price_cents, shelf, stock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
             ON CONFLICT (id) DO UPDATE SET position = excluded.position, name = excluded.name,
                 category = excluded.category, blurb = excluded.blurb, price_cents = excluded.price_cents,
                 shelf = excluded.shelf",
            params![position, id, name, category, blurb, price_cents, shelf],
        )?;
    }
    Ok(())
}
