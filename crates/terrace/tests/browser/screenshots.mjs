// Takes the pictures of the documentation, from the dashboard of the example shop. See scripts/screenshots.py.
//
//   SHOP=http://… node screenshots.mjs LOGIN-URL FOLDER NAME…
//
// The names are those of `PICTURES`; each is a file FOLDER/NAME.png.

import { DESK, expect, launch, until, visitor } from "./browser.mjs";

const [url, folder, ...names] = process.argv.slice(2);
const browser = await launch();
const { page } = await visitor(browser, new URL(url).origin);

async function open(place, { colorScheme = "light", viewport = DESK } = {}) {
  await page.emulateMedia({ colorScheme });
  await page.setViewportSize(viewport);
  await page.goto(place);
  await page.locator("#stream[data-state=live]").waitFor();
}

/** With the charts drawn, after the stream has brought the page up to date at least once. */
async function openWithCharts(place) {
  await open(place);
  await page.locator("[data-chart] canvas").first().waitFor();
  await page.locator("[data-chart] .legend tbody tr").first().waitFor();
}

/** Makes the window as high as the page needs, within reason, and leaves out what only a window has: the place for its bar. */
async function fit(most) {
  await page.evaluate(() => (document.documentElement.style.scrollbarGutter = "auto"));
  const height = await page.evaluate(() => document.querySelector(".map-panel, .trace")?.getBoundingClientRect().bottom + scrollY + 16);
  if (height > page.viewportSize().height && most > page.viewportSize().height) await page.setViewportSize({ ...page.viewportSize(), height: Math.min(Math.ceil(height), most) });
}

/** The way of a purchase that touches all there is, and in which no single step is so slow that nothing else is seen. */
async function tellingTrace() {
  await open("/traces?text=POST+%2Fcheckout");
  const rows = page.locator("table.traces tbody tr").filter({ has: page.locator(".badge.ok") });
  const places = await rows.getByRole("link").evaluateAll((links) => links.slice(0, 30).map((link) => link.pathname));
  const found = [];
  for (const place of places) {
    await page.goto(place);
    const spans = await page.locator("[data-waterfall] .span-row").count();
    const most = parseFloat(await page.locator(".blame li b").first().innerText());
    found.push({ place, spans, most });
  }
  expect(found.length > 0, "there is a kept trace of a purchase");
  const whole = Math.max(...found.map((each) => each.spans)) - 6;
  return found.filter((each) => each.spans >= whole).sort((a, b) => a.most - b.most)[0].place;
}

/** A checkout whose order is kept, because the bank is away. */
async function keptOrder() {
  const shop = process.env.SHOP;
  const { request } = page.context();
  await request.post(`${shop}/register`, { form: { name: "Ada", email: `ada-${Date.now()}@example.com`, password: "correct horse" } });
  for (const product of ["olive-tree", "string-lights"]) await request.post(`${shop}/cart`, { form: { product } });
  await page.setViewportSize({ width: 1000, height: 800 });
  await page.goto(`${shop}/checkout`);
  await page.getByLabel("Where is your terrace?").fill("12 Terrace Road, Sunnyville");
  await page.getByRole("button", { name: /^Pay/ }).click();
  await page.locator(".patience").waitFor();
}

const PICTURES = {
  overview: () => open("/"),
  "overview-dark": () => open("/", { colorScheme: "dark" }),
  outage: () => open("/"),
  "shop-kept": keptOrder,
  phone: () => open("/", { viewport: { width: 390, height: 780 } }),
  route: () => openWithCharts("/routes/pages?last=5m"),
  objective: () => openWithCharts("/objectives/shopping?last=5m"),
  async trace() {
    await open(await tellingTrace());
    await page.locator("[data-waterfall] .span-row", { hasText: "POST /orders" }).first().click();
    await page.locator("[data-waterfall] .span-row[aria-current]").waitFor();
  },
};

await page.goto(url);
await until("the login has led to the overview", () => new URL(page.url()).pathname === "/");
for (const name of names) {
  expect(name in PICTURES, `there is a picture called ${name}`, Object.keys(PICTURES));
  await PICTURES[name]();
  await page.mouse.move(0, 0);
  await page.evaluate(() => scrollTo(0, 0));
  await fit(name === "phone" ? 0 : 1400);
  await page.screenshot({ path: `${folder}/${name}.png` });
  console.log(`${name}.png`);
}
await browser.close();
