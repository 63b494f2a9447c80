// What pages of other origins may do and read, as Debian's Chromium has it.
//
//   node cors.mjs '{"page": "http://127.0.0.1:…", "stranger": "http://127.0.0.1:…", "api": "http://127.0.0.1:…"}'
//
// `page` and `stranger` are empty pages of two origins, `api` is a service that tells what it saw, under `/` for `page`
// alone and with credentials, under `/open/` for all without; at `/denied` Terrace itself refuses.

import { expect, launch, PATIENCE_MS } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const browser = await launch();

/** A page of that origin, on which scripts can be run. */
async function pageOf(origin) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(`${origin}/`);
  return page;
}

/** What a script of the page learns when it fetches that: status, body and some fields, or that it was refused. */
function fetched(page, target, options = {}) {
  return page.evaluate(
    async ({ url, options }) => {
      try {
        const answer = await fetch(url, options);
        const field = (name) => answer.headers.get(name);
        const body = await answer.text();
        return { status: answer.status, type: answer.type, body, instance: field("x-instance"), server: field("x-hidden") };
      } catch (error) {
        return { refused: error.name };
      }
    },
    { url: `${given.api}${target}`, options },
  );
}

/** The fields of the request that the service saw, by name. */
const seen = (answer) => Object.fromEntries(JSON.parse(answer.body).fields);

const page = await pageOf(given.page);
const stranger = await pageOf(given.stranger);

const STEPS = {
  "a page that is allowed sends what it may, with its cookies, and reads what is exposed": async () => {
    await page.evaluate(() => (document.cookie = "who=ann"));
    const options = { method: "PUT", headers: { "X-Custom": "1" }, credentials: "include", body: "x" };
    const answer = await fetched(page, "/seen", options);
    expect(answer.status === 200, "it is answered", answer);
    const fields = seen(answer);
    expect(fields.cookie === "who=ann" && fields["x-custom"] === "1" && fields.origin === given.page, "all of it came", fields);
    expect(answer.instance !== null, "what is exposed is read", answer);
    expect(answer.server === null, "what is not exposed is not", answer);
  },
  "neither a method nor a header that is not named": async () => {
    const method = await fetched(page, "/seen", { method: "PATCH" });
    expect(method.refused === "TypeError", "PATCH is refused", method);
    const header = await fetched(page, "/seen", { headers: { "X-Other": "1" } });
    expect(header.refused === "TypeError", "X-Other is refused", header);
  },
  "a page of another origin reads nothing, though what every page may send is sent": async () => {
    const plain = await fetched(stranger, "/seen");
    expect(plain.refused === "TypeError", "it is not read", plain);
    const opaque = await fetched(stranger, "/seen", { mode: "no-cors" });
    expect(opaque.type === "opaque", "it is sent all the same", opaque);
    const changing = await fetched(stranger, "/seen", { method: "PUT", body: "x" });
    expect(changing.refused === "TypeError", "what must be asked for is not sent", changing);
  },
  "a page can read why Terrace itself refused it": async () => {
    const answer = await fetched(page, "/denied", { headers: { Accept: "application/json" } });
    expect(answer.status === 403 && answer.body.includes("addresses of the route"), "it reads the reason", answer);
  },
  "a page without an origin is nobody's": async () => {
    const url = JSON.stringify(`${given.api}/seen`);
    const told = await page.evaluate((url) => {
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      frame.srcdoc = `<script>fetch(${url}).then(() => "read", (error) => error.name).then((told) => parent.postMessage(told, "*"))</script>`;
      const told = new Promise((tell) => addEventListener("message", (event) => tell(event.data), { once: true }));
      document.body.append(frame);
      return told;
    }, url);
    expect(told === "TypeError", "a frame in a sandbox is refused", told);
  },
  "what is open is read by all, and never with cookies": async () => {
    const plain = await fetched(stranger, "/open/seen");
    expect(plain.status === 200, "it is read", plain);
    const withCookies = await fetched(stranger, "/open/seen", { credentials: "include" });
    expect(withCookies.refused === "TypeError", "credentials are refused", withCookies);
  },
};

let failed = false;
for (const [what, step] of Object.entries(STEPS)) {
  try {
    await step();
  } catch (error) {
    failed = true;
    console.error(`${what}: ${error.stack ?? error}`);
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
