// What every page has: the live stream, actions without a new page, keys, the theme.
//
// A page works without any of this. For the modules beside it:
//   document "terrace:map"     detail: the map, as in crates/admin/src/map.rs; each second
//   document "terrace:alerts"  detail: { firing: [pages, tickets], digest }
//   document "terrace:log"     detail: rows of the log's table, as HTML made and escaped by the server;
//                              "terrace:log-start" the same at the stream's beginning
//   document "terrace:stale"   the stream broke off; "terrace:fresh" when it is back
//   document "terrace:refreshed"  detail: the element whose content was fetched anew
//   restream()                 opens the stream anew, after [data-stream-query] changed
//   toast(text, kind)          says something for some seconds; kind "ok" or "bad"
//   localTimes(root)           shows times in the reader's own zone

const body = document.body;

// ── saying something ──

const TOAST_MS = 7000;

export function toast(text, kind = "ok") {
  const box = document.getElementById("toasts");
  if (!box) return;
  const entry = document.createElement("div");
  entry.className = `toast ${kind}`;
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet";
  close.textContent = "Dismiss";
  close.addEventListener("click", () => entry.remove());
  entry.append(words, close);
  box.append(entry);
  while (box.children.length > 4) box.firstElementChild.remove();
  // What went wrong stays until it is dismissed: it may need to be read twice.
  if (kind === "ok") setTimeout(() => entry.remove(), TOAST_MS);
}

// ── times ──

const clockFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const todayFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function localTimes(root = document) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent = (at.toDateString() === today ? todayFormat : clockFormat).format(at);
    time.title = time.dateTime;
  }
}

// ── the live stream ──

const SILENCE_MS = 5000;
const BACKOFF_MS_MAX = 30000;
const stream = { source: null, lastAt: 0, failures: 0, timer: 0, ended: false, isFresh: null };

function tell(name, detail) {
  document.dispatchEvent(new CustomEvent(`terrace:${name}`, { detail }));
}

function streamUrl() {
  const query = document.querySelector("[data-stream-query]")?.dataset.streamQuery;
  return body.dataset.stream + (query ? `?${query}` : "");
}

function open() {
  clearTimeout(stream.timer);
  stream.source?.close();
  stream.source = null;
  if (stream.ended || !body.dataset.stream || document.hidden) return;
  const source = new EventSource(streamUrl());
  stream.source = source;
  source.addEventListener("map", (event) => heard("map", JSON.parse(event.data)));
  source.addEventListener("alerts", (event) => heard("alerts", JSON.parse(event.data)));
  source.addEventListener("log", (event) => heard("log", event.data));
  source.addEventListener("log-start", (event) => heard("log-start", event.data));
  source.addEventListener("end", () => retry());
  source.addEventListener("error", () => retry());
}

function heard(name, detail) {
  stream.lastAt = performance.now();
  stream.failures = 0;
  show(true);
  tell(name, detail);
}

// Our own pace instead of the browser's: it would go on for ever with a session that has ended.
async function retry() {
  stream.source?.close();
  stream.source = null;
  show(false);
  const wait = Math.min(BACKOFF_MS_MAX, 1000 * 2 ** stream.failures) * (0.75 + Math.random() / 2);
  stream.failures += 1;
  clearTimeout(stream.timer);
  stream.timer = setTimeout(reopen, wait);
}

async function reopen() {
  try {
    const answer = await fetch("/session", { headers: { accept: "application/json" } });
    if (answer.status === 401) {
      stream.ended = true;
      show(false);
      toast("You are signed out. Sign in again to see what happens now.", "bad");
      return;
    }
  } catch {
    // Terrace is away; the stream will say so again.
  }
  open();
}

export function restream() {
  stream.failures = 0;
  open();
}

function show(isFresh) {
  const state = document.getElementById("stream");
  if (!state) return;
  if (isFresh !== stream.isFresh) {
    stream.isFresh = isFresh;
    tell(isFresh ? "fresh" : "stale");
    state.hidden = false;
    state.dataset.state = isFresh ? "live" : "stale";
    body.classList.toggle("is-stale", !isFresh);
    const since = new Date().toLocaleTimeString();
    state.querySelector(".text").textContent = isFresh ? "live" : `${stream.ended ? "signed out" : "stale"} since ${since}`;
  }
}

// A stream may stay open and say nothing, when the machine slept or Terrace hangs.
setInterval(() => {
  if (stream.source && stream.lastAt && performance.now() - stream.lastAt > SILENCE_MS && !document.hidden) {
    stream.lastAt = 0;
    retry();
  }
}, 1000);

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(stream.timer);
    stream.source?.close();
    stream.source = null;
  } else {
    open();
  }
});

// ── what the stream says to every page ──

document.addEventListener("terrace:alerts", (event) => {
  const [pages, tickets] = event.detail.firing;
  const count = document.getElementById("firing");
  if (count) {
    count.hidden = pages + tickets === 0;
    count.dataset.kind = pages > 0 ? "bad" : "warn";
    count.querySelector(".number").textContent = pages + tickets;
  }
  if (body.dataset.alertsDigest && body.dataset.alertsDigest !== event.detail.digest) {
    refresh("[data-refresh-on='alerts']");
  }
  body.dataset.alertsDigest = event.detail.digest;
});

// Fetches the page again and takes over one part of it. Somebody who is filling in a form is not disturbed.
async function refresh(selector, evenIfBusy = false) {
  const old = document.querySelector(selector);
  if (!old) return;
  const isBusy = old.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
  const isOpen = old.querySelector("details.popover[open]");
  if ((isBusy || isOpen) && !evenIfBusy) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector(selector);
  if (!fresh) return;
  const focused = old.contains(document.activeElement);
  old.replaceChildren(...fresh.childNodes);
  if (focused) document.getElementById("main").focus({ preventScroll: true });
  localTimes(old);
  reveal(old);
  tell("refreshed", old);
}

// ── actions ──

async function send(form, confirmed) {
  const fields = new URLSearchParams(new FormData(form));
  if (confirmed) fields.set("confirmed", "yes");
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { accept: "application/json", "x-csrf-token": body.dataset.csrf },
    body: fields,
  });
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // No JSON: the status says enough.
  }
  if (!answer.ok) throw new Error(said.detail || `That did not work (HTTP ${answer.status}).`);
  return said;
}

function ask(question) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function act(form) {
  const buttons = [...form.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  try {
    let said = await send(form, false);
    if (said.confirm) {
      if (!(await ask(said.confirm))) return;
      said = await send(form, true);
    }
    form.closest("details")?.removeAttribute("open");
    if (form.hasAttribute("data-refresh")) await refresh("#main [data-refresh-on]", true);
    toast(said.message || "Done.");
  } catch (problem) {
    toast(problem.message, "bad");
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.hasAttribute("data-action")) return;
  event.preventDefault();
  act(form);
});

// ── copying ──

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    toast("Copied.");
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(source);
    toast("The browser does not let a page copy here; the text is selected.", "bad");
  }
});

// ── keys ──

const PLACES = { o: "/", t: "/traces", l: "/logs", a: "/alerts", c: "/config" };
let afterG = 0;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest?.("input, select, textarea, [contenteditable]")) return;
  if (document.querySelector("dialog[open]") || !body.dataset.stream) return;
  const isAfterG = performance.now() - afterG < 1500;
  afterG = 0;
  if (isAfterG && PLACES[event.key]) {
    location.assign(PLACES[event.key]);
  } else if (event.key === "g") {
    afterG = performance.now();
  } else if (event.key === "?") {
    document.getElementById("help").showModal();
  } else if (event.key === "/") {
    const filter = document.querySelector("[data-filter]");
    if (!filter) return;
    filter.focus();
    filter.select?.();
  } else {
    return;
  }
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.activeElement?.closest("details.menu[open], details.popover[open]");
  if (!open) return;
  open.removeAttribute("open");
  open.querySelector("summary").focus();
});

document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.menu[open], details.popover[open]")) {
    if (!open.contains(event.target)) open.removeAttribute("open");
  }
});

document.getElementById("show-help")?.addEventListener("click", () => {
  document.getElementById("help").showModal();
});

// ── theme ──

function chosenTheme() {
  return document.documentElement.dataset.theme ?? "auto";
}

function markTheme() {
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === chosenTheme()));
  }
}

document.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-theme-choice]")?.dataset.themeChoice;
  if (!choice) return;
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  try {
    if (choice === "auto") localStorage.removeItem("terrace-theme");
    else localStorage.setItem("terrace-theme", choice);
  } catch {
    // Not remembered, then.
  }
  markTheme();
  tell("theme", choice);
});

// ── begin ──

// What makes sense only with a script is hidden until there is one.
function reveal(root) {
  for (const element of root.querySelectorAll("[data-copy], #theme, #show-help")) element.hidden = false;
}

// A page that is only fetched ahead of a click must not use up a code.
function submitAhead() {
  const form = document.querySelector("form[data-auto-submit]");
  if (!form) return;
  history.replaceState(null, "", "/login");
  if (document.prerendering) document.addEventListener("prerenderingchange", () => form.requestSubmit(), { once: true });
  else form.requestSubmit();
}

// On a phone the bar is wider than the window: the tab of this page is scrolled into it, and the page stays where it is.
function showTab() {
  const tab = document.querySelector(".nav a[aria-current]");
  const bar = tab?.parentElement;
  if (bar) bar.scrollLeft = tab.offsetLeft - bar.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
}

reveal(document);
showTab();
matchMedia("(max-width: 48rem)").addEventListener("change", showTab);
markTheme();
localTimes();
submitAhead();
open();
