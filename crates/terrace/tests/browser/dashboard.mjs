// What a person does in the dashboard, from signing in to signing out, in Debian's Chromium.
//
//   node dashboard.mjs '{"origin": "http://127.0.0.1:…", "terrace": "…/terrace", "operator": "token", "viewer": "token"}'
//
// It is run in the folder of a Terrace in front of two services, `front` and `web` behind it, each with one instance, with
// a route `shop` to `front` and an objective of that name. Somebody else keeps asking, and some of what they ask for
// fails. Each step below says what it proves; the first that fails ends the program with 1 and says why.

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { expect, expectNoComplaint, inspect, launch, until, visitor } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const FAILED = new URL("../../../../target/browser/failed/", import.meta.url).pathname;
// No step waits for long, but there are many: whoever waits for the program itself is told by it.
const ALL_MS = 8 * 60_000;

const browser = await launch();
const everybody = [];

async function newVisitor(options) {
  const who = await visitor(browser, given.origin, options);
  everybody.push(who);
  return who;
}

// ── what several steps need ──

async function signIn(page, token) {
  await page.goto("/login");
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`${given.origin}/`);
}

/** Marks the page, so that one sees whether it was loaded anew. */
async function mark(page) {
  await page.evaluate(() => (globalThis.isSamePage = true));
}

async function expectSamePage(page, where) {
  expect(await page.evaluate(() => globalThis.isSamePage === true), `${where}: the page was loaded anew`);
}

/** The visible text of what `locator` finds, in one line. */
async function text(locator) {
  return (await locator.innerText()).replace(/\s+/g, " ").trim();
}

async function goAhead(page) {
  const dialog = page.locator("dialog#confirm");
  await dialog.waitFor();
  await dialog.getByRole("button", { name: "Go ahead" }).click();
}

function instanceRow(page, name) {
  return page.locator("#instances tbody tr").filter({ has: page.getByRole("link", { name, exact: true }) });
}

async function gone(locator) {
  await locator.waitFor({ state: "detached" });
}

// ── the journey ──

const me = await newVisitor();
const { page } = me;
let tracePath = "";

const STEPS = {
  "who is not signed in sees only the login, and a wrong token does not help": async () => {
    const stranger = await newVisitor();
    await stranger.page.goto("/traces");
    expect(new URL(stranger.page.url()).pathname === "/login", "a stranger is led to the login", stranger.page.url());
    await inspect(stranger, "login");
    await stranger.page.getByLabel("Token").fill("not-the-token-at-all");
    await stranger.page.getByRole("button", { name: "Sign in" }).click();
    await stranger.page.getByText("That token is not right.").waitFor();
    // That the answer was 401 is told on the console, and is right.
    const others = stranger.complaints.filter((each) => !each.includes("401"));
    expectNoComplaint(others, "the login with a wrong token");
    await stranger.context.close();
  },

  "the address that `terrace dashboard` prints signs in, once": async () => {
    const { url } = JSON.parse(execFileSync(given.terrace, ["dashboard", "--json"], { encoding: "utf8" }));
    const invited = await newVisitor();
    await invited.page.goto(url);
    await invited.page.waitForURL(`${given.origin}/`);
    await invited.page.locator("details.menu summary", { hasText: "operator" }).waitFor();
    const code = new URL(url).searchParams.get("code");
    const again = await invited.context.request.post("/login", { form: { code }, headers: { origin: given.origin }, maxRedirects: 0 });
    expect(again.status() === 401, "a code is good once", again.status());
    expectNoComplaint(invited.complaints, "the login by address");
    await invited.context.close();
  },

  "the token signs in, and leads to the map": async () => {
    await signIn(page, given.operator);
    for (const name of ["listener:public", "route:shop", "service:front", "service:web", "instance:front-1", "instance:web-1"]) {
      await page.locator(`.map [data-node="${name}"]`).waitFor();
    }
    await page.locator("#stream[data-state=live]").waitFor();
    await mark(page);
    const rate = page.locator('.map [data-node="route:shop"] .rate');
    const before = await until("the route has requests", async () => ((await text(rate)) === "0/s" ? null : text(rate)));
    await until("the route's rate moves by itself", async () => (await text(rate)) !== before);
    await expectSamePage(page, "the overview");
    await inspect(me, "overview");
  },

  "keys lead through the pages, and the map can be filtered": async () => {
    await page.keyboard.press("?");
    await page.locator("dialog#help[open]").waitFor();
    await inspect(me, "overview with its help");
    await page.keyboard.press("Escape");
    await page.locator("dialog#help:not([open])").waitFor({ state: "attached" });
    await page.keyboard.press("/");
    await page.keyboard.type("web");
    await page.locator('.map [data-node="service:web"]:not(.is-dim)').waitFor();
    await page.locator('.map [data-node="route:shop"].is-dim').waitFor();
    await page.locator("#map-filter").fill("");
    await page.locator("#map-filter").blur();
    await page.keyboard.press("g");
    await page.keyboard.press("t");
    await page.waitForURL("**/traces");
    await page.keyboard.press("g");
    await page.keyboard.press("o");
    await page.waitForURL(`${given.origin}/`);
  },

  "a route on the map leads to its page, with charts": async () => {
    await page.locator(".map").getByRole("link", { name: "shop", exact: true }).click();
    await page.waitForURL("**/routes/shop");
    await page.getByRole("heading", { name: "Route shop" }).waitFor();
    await page.locator("[data-chart] canvas").first().waitFor();
    await until("a chart is drawn", () =>
      page.evaluate(() => {
        const isDrawn = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((part) => part > 0);
        return [...document.querySelectorAll("[data-chart] canvas")].some((canvas) => canvas.width > 0 && isDrawn(canvas));
      }),
    );
    await page.locator("[data-range]", { hasText: "5 min" }).first().click();
    await inspect(me, "route");
  },

  "the route's failed request leads to its trace, which keys walk through": async () => {
    const failed = page.locator("table.traces tbody tr").filter({ has: page.locator(".badge.bad") });
    await failed.first().waitFor();
    await failed.first().getByRole("link").first().click();
    await page.waitForURL(/\/traces\/[0-9a-f]{32}/);
    tracePath = new URL(page.url()).pathname;
    const rows = page.locator("[data-waterfall] .span-row");
    const count = await rows.count();
    expect(count >= 4, "the waterfall shows the whole way: request, try, request within, try", count);
    const whole = await text(page.locator("[data-waterfall]"));
    for (const who of ["front-1", "web-1"]) expect(whole.includes(who), `the waterfall names ${who}`, whole);
    await rows.first().focus();
    const chosen = page.locator("[data-waterfall] .span-row[aria-current]");
    for (let step = 1; step < count; step += 1) {
      await page.keyboard.press("ArrowDown");
      const [here, wanted] = [await chosen.getAttribute("href"), await rows.nth(step).getAttribute("href")];
      expect(here === wanted, `arrow down chooses row ${step + 1}`, here);
      await page.locator(`${wanted}.is-chosen`).waitFor();
    }
    await page.keyboard.press("Home");
    await page.keyboard.press("ArrowLeft");
    expect((await page.locator("[data-waterfall] li:visible").count()) === 1, "arrow left folds what is below the first span");
    await page.keyboard.press("ArrowRight");
    await inspect(me, "trace");
  },

  "a trace leads to its log lines, and a line back to its trace": async () => {
    await page.goto(tracePath);
    await page.getByRole("link", { name: "Log lines" }).click();
    await page.waitForURL("**/logs?trace=*");
    const line = page.locator("table.log tbody tr").filter({ hasText: "asked web for /status" });
    await line.first().waitFor();
    await line.first().locator("summary").click();
    await inspect(me, "logs of a trace");
    await line.first().getByRole("link", { name: /^trace / }).click();
    await page.waitForURL(`**${tracePath}`);
  },

  "the log follows what is said": async () => {
    await page.goto("/logs?service=front");
    await page.locator("#stream[data-state=live]").waitFor();
    const rows = page.locator("table.log tbody tr");
    const before = await rows.count();
    await until("lines come by themselves", async () => (await rows.count()) > before);
    await page.getByRole("button", { name: "Follow" }).click();
    await page.locator("#follow[aria-pressed=false]").waitFor();
  },

  "a service is scaled, and the new instance appears by itself": async () => {
    await page.goto("/services/web");
    await page.locator("#stream[data-state=live]").waitFor();
    await mark(page);
    expect((await instanceRow(page, "web-2").count()) === 0, "there is one instance at first");
    await page.getByLabel("Instances").first().fill("2");
    await page.getByRole("button", { name: "Scale", exact: true }).click();
    await page.locator(".toast.ok").filter({ hasText: "web is to have 2 instances now" }).waitFor();
    await instanceRow(page, "web-2").getByText("ready", { exact: true }).waitFor();
    await expectSamePage(page, "the service's page");
    await inspect(me, "service");
  },

  "an instance is drained and let in again": async () => {
    const row = instanceRow(page, "web-2");
    await row.getByRole("button", { name: "Drain web-2" }).click();
    await goAhead(page);
    await page.locator(".toast.ok").filter({ hasText: "web-2 gets no new requests" }).waitFor();
    await row.locator(".badge").getByText("drained").waitFor();
    await row.getByRole("button", { name: "Let in again web-2" }).click();
    await page.locator(".toast.ok").filter({ hasText: "web-2 gets requests again" }).waitFor();
    await row.locator(".badge").getByText("ready", { exact: true }).waitFor();
    await row.getByRole("button", { name: "Drain web-2" }).waitFor();
    await expectSamePage(page, "the service's page");
    await row.getByRole("link", { name: "web-2", exact: true }).click();
    await page.getByRole("heading", { name: "Instance web-2" }).waitFor();
    await page.getByText("Requests go there.").waitFor();
    await inspect(me, "instance");
  },

  "a firing alert is silenced, and heard again when the silence is ended": async () => {
    await page.goto("/alerts");
    const card = page.locator("article.alert.bad").filter({ hasText: "firing" }).first();
    await card.waitFor();
    await inspect(me, "alerts");
    await card.getByText("Silence…").click();
    await card.getByLabel("What").selectOption({ label: "all of shop" });
    await card.getByLabel("Why").fill("the new checkout is being deployed");
    await inspect(me, "alerts with a form open");
    await card.getByRole("button", { name: /^Silence / }).click();
    await page.locator(".toast.ok").filter({ hasText: "Nobody is told about shop for 2 hours" }).waitFor();
    await card.getByText("silenced until").waitFor();
    const silence = page.getByRole("region", { name: "Silences in force" }).getByRole("row").filter({ hasText: "the new checkout" });
    await silence.waitFor();
    await inspect(me, "alerts with a silence");
    await silence.getByRole("button", { name: /^End / }).click();
    await gone(silence);
    await gone(card.getByText("silenced until"));
  },

  "what is broken on purpose is told, and ended": async () => {
    execFileSync(given.terrace, ["fault", "shop", "--delay", "1ms", "--share", "1%", "--for", "1h"]);
    await page.goto("/");
    const told = page.locator(".problems li").filter({ hasText: "On purpose" });
    await told.waitFor();
    await inspect(me, "overview with a fault");
    await told.getByRole("link").click();
    const fault = page.getByRole("region", { name: "Faults on purpose" }).getByRole("row").filter({ hasText: "shop" });
    await fault.waitFor();
    await inspect(me, "alerts with a fault");
    await fault.getByRole("button", { name: /^End / }).click();
    await gone(fault);
  },

  "every other page is in order as well": async () => {
    for (const place of ["/routes", "/services", "/objectives", "/services/front", "/objectives/shop", "/traces", "/metrics-explorer", "/config", "/audit", "/machine"]) {
      const answer = await page.goto(place);
      expect(answer.status() === 200, `${place} is a page`, answer.status());
      await page.locator("#stream[data-state=live]").waitFor();
      await inspect(me, place);
    }
  },

  "what was done is on record": async () => {
    await page.goto("/audit");
    const record = await text(page.locator("main"));
    for (const what of ["scale", "drain", "undrain", "silence", "unsilence", "fault", "end-fault"]) expect(record.includes(what), `the audit names ${what}`, record);
  },

  "a viewer sees everything and can do nothing": async () => {
    const viewer = await newVisitor();
    await signIn(viewer.page, given.viewer);
    await viewer.page.locator("details.menu summary", { hasText: "viewer" }).waitFor();
    for (const place of ["/services/web", "/services/web/instances/web-1", "/alerts", "/config"]) {
      await viewer.page.goto(place);
      const forms = await viewer.page.locator('form[method="post"]:not([action="/logout"])').count();
      expect(forms === 0, `${place} shows a viewer no form to act with`, forms);
    }
    await inspect(viewer, "configuration, for a viewer");
    await viewer.page.goto("/services/web");
    const csrf = await viewer.page.locator("body").getAttribute("data-csrf");
    for (const [place, form] of [["/services/web/scale", { instances: "5" }], ["/silences", { target: "shop", lasts: "2h" }], ["/reload", {}]]) {
      const answer = await viewer.context.request.post(place, { form: { ...form, csrf }, headers: { origin: given.origin }, maxRedirects: 0 });
      expect(answer.status() === 403, `a viewer's POST to ${place} is refused`, answer.status());
    }
    await viewer.context.close();
  },

  "a form that comes from elsewhere does nothing": async () => {
    const csrf = await page.locator("body").getAttribute("data-csrf");
    const post = async (headers, form) => (await me.context.request.post("/services/web/scale", { form, headers, maxRedirects: 0 })).status();
    const seen = [
      await post({ origin: given.origin }, { instances: "5" }),
      await post({ origin: "http://evil.example" }, { instances: "5", csrf }),
      await post({ origin: given.origin, "sec-fetch-site": "cross-site" }, { instances: "5", csrf }),
    ];
    expect(seen.every((status) => status === 403), "no token, or another origin: refused", seen);
  },

  "without scripts one reads, and scales, all the same": async () => {
    const plain = await newVisitor({ javaScriptEnabled: false });
    await signIn(plain.page, given.operator);
    for (const name of ["route:shop", "service:web", "instance:web-2"]) await plain.page.locator(`.map [data-node="${name}"]`).waitFor();
    await plain.page.goto(tracePath);
    const row = plain.page.locator("[data-waterfall] .span-row").nth(1);
    await row.click();
    await plain.page.locator(await row.getAttribute("href")).getByText("Own time").waitFor();
    await plain.page.goto("/services/web");
    await plain.page.getByLabel("Instances").first().fill("3");
    const answered = plain.page.waitForResponse((answer) => answer.url().endsWith("/services/web/scale"));
    await plain.page.getByRole("button", { name: "Scale", exact: true }).click();
    const status = (await answered).status();
    expect(status === 303, "the form is answered by the way back to the page", status);
    await plain.page.getByText("web is to have 3 instances now").waitFor();
    expect(new URL(plain.page.url()).pathname === "/services/web", "one is back on the page", plain.page.url());
    await until("the third instance is there", async () => {
      await plain.page.reload();
      return (await instanceRow(plain.page, "web-3").count()) === 1;
    });
    await plain.page.getByLabel("Instances").first().fill("2");
    await plain.page.getByRole("button", { name: "Scale", exact: true }).click();
    await plain.page.getByText("Scale web down from 3 to 2?").waitFor();
    await plain.page.getByRole("button", { name: "Go ahead" }).click();
    await plain.page.getByText("web is to have 2 instances now").waitFor();
    await plain.context.close();
  },

  "who signs out is out, whatever cookie they kept": async () => {
    await page.goto("/");
    const cookies = await me.context.cookies();
    expect(cookies.every((cookie) => cookie.httpOnly && cookie.sameSite === "Strict"), "cookies are for the server alone, and for its own pages", cookies);
    await page.locator("details.menu summary").click();
    await inspect(me, "overview with its menu");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL("**/login");
    await me.context.addCookies(cookies);
    await page.goto("/services/web");
    expect(new URL(page.url()).pathname === "/login", "a cookie from before is worth nothing", page.url());
    expectNoComplaint(me.complaints, "signing out");
  },
};

async function photograph() {
  mkdirSync(FAILED, { recursive: true });
  for (const [index, { page }] of everybody.entries()) {
    if (!page.isClosed()) await page.screenshot({ path: `${FAILED}${index}.png`, timeout: 10_000 }).catch(() => {});
  }
}

let step = "";
setTimeout(() => {
  console.error(`the journey took longer than ${ALL_MS / 1000} s, and stands at: ${step}`);
  process.exit(1);
}, ALL_MS).unref();

const began = Date.now();
try {
  for (const [name, walk] of Object.entries(STEPS)) {
    step = name;
    await walk();
    console.log(`${((Date.now() - began) / 1000).toFixed(1)} s  ${name}`);
  }
} catch (error) {
  await photograph();
  console.error(`“${step}” failed at ${page.url()}\n${error.stack ?? error}\nwhat was to be seen then is in target/browser/failed`);
  const complaints = everybody.flatMap((each) => each.complaints);
  if (complaints.length > 0) console.error(`complaints of the browser:\n${complaints.join("\n")}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
