// Chromium, and what every page of the dashboard has to satisfy whoever looks at it.
//
// A page is watched from its first byte: a message on the console that is an error, an exception, a request that fails or a
// breach of the Content-Security-Policy fails the test, with the page it came from. `inspect` adds what one sees only by
// looking: axe in the light and the dark theme, on a desk and on a phone, and that a phone need not scroll sideways.
//
// Nothing here sleeps: whatever takes time is waited for by what it brings about.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The packages are kept apart from the repository, where `scripts/prepare.sh test` puts them.
const require = createRequire(`${process.env.TERRACE_BROWSER_MODULES ?? new URL("../../../../target/browser/node_modules", import.meta.url).pathname}/`);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** How long anything may take: far longer than it does anywhere, since a loaded machine is no defect. */
export const PATIENCE_MS = 60_000;
export const DESK = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** Ends the test with one sentence of what was expected, and what was there instead. */
export function expect(isSo, sentence, seen) {
  if (isSo) return;
  throw new Error(seen === undefined ? sentence : `${sentence}\nthere was: ${typeof seen === "string" ? seen : JSON.stringify(seen, null, 2)}`);
}

/** Looks until `look` finds something, and returns it. */
export async function until(what, look) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    expect(Date.now() < deadline, `waited in vain until ${what}`);
    await new Promise((again) => setTimeout(again, 100));
  }
}

export async function launch() {
  // Chromium's sandbox needs a user other than root. Shared memory is small in containers.
  const asRoot = process.getuid() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({
    executablePath: process.env.TERRACE_CHROMIUM ?? "/usr/bin/chromium",
    args: [...asRoot, "--disable-dev-shm-usage", "--disable-gpu"],
  });
}

/** A browser's window of its own, with no cookies, and the complaints of all its pages. */
export async function visitor(browser, origin, options = {}) {
  const context = await browser.newContext({ baseURL: origin, viewport: DESK, colorScheme: "light", ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  context.setDefaultNavigationTimeout(PATIENCE_MS);
  const complaints = [];
  const withScripts = options.javaScriptEnabled !== false;
  if (withScripts) {
    // A breach of the policy is told on the console as well, though not in every case.
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        console.error(`Content-Security-Policy: ${event.violatedDirective} forbids ${event.blockedURI}`);
      });
    });
    await context.addInitScript({ content: AXE });
  }
  const page = await context.newPage();
  watch(page, complaints);
  return { context, page, complaints };
}

function watch(page, complaints) {
  const complain = (what) => complaints.push(`${new URL(page.url(), "http://nowhere").pathname}: ${what}`);
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complain(`${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => complain(`an exception: ${error.stack ?? error}`));
  page.on("response", (response) => {
    if (response.status() >= 500) complain(`${response.url()} answered ${response.status()}`);
  });
}

export function expectNoComplaint(complaints, where) {
  expect(complaints.length === 0, `${where}: the browser complained`, complaints.join("\n"));
}

/** All that a page has to satisfy; leaves it as it found it, on a desk and light. */
export async function inspect({ page, complaints }, where) {
  await expectAccessible(page, `${where}, light`);
  await page.emulateMedia({ colorScheme: "dark" });
  await expectAccessible(page, `${where}, dark`);
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(PHONE);
  await expectAccessible(page, `${where}, on a phone`);
  await expectNoSidewaysScroll(page, where);
  await until(`${where}: on a phone the tab of the page is in sight`, () => page.evaluate(isTabInSight));
  await page.setViewportSize(DESK);
  expectNoComplaint(complaints, where);
}

/** Whether the navigation shows where one is, if it has a tab for it. */
function isTabInSight() {
  const tab = document.querySelector(".nav a[aria-current]")?.getBoundingClientRect();
  return !tab || (tab.left >= 0 && tab.right <= innerWidth);
}

async function expectAccessible(page, where) {
  // Colours that are on their way from one theme to the other are no colours to judge.
  await page.evaluate(() => Promise.all(document.getAnimations().filter((each) => each instanceof CSSTransition).map((each) => each.finished.catch(() => {}))));
  const violations = await page.evaluate(async (rules) => {
    const { violations } = await globalThis.axe.run(document, { runOnly: { type: "tag", values: rules }, resultTypes: ["violations"] });
    return violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.slice(0, 5).map((node) => ({ html: node.html.slice(0, 300), why: node.failureSummary })) }));
  }, RULES);
  expect(violations.length === 0, `${where}: axe objects`, violations);
}

async function expectNoSidewaysScroll(page, where) {
  const wide = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return null;
    const sticksOut = (each) => each.getBoundingClientRect().right > clientWidth + 1;
    const culprits = [...document.querySelectorAll("body *")].filter(sticksOut).slice(0, 5);
    return { scrollWidth, clientWidth, culprits: culprits.map((each) => each.outerHTML.slice(0, 160)) };
  });
  expect(wide === null, `${where}: a phone must scroll sideways`, wide);
}
