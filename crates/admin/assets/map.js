// Keeps what the server rendered up to date.
//
// The server alone knows how a page looks. With each map that the stream brings, this fetches the page anew and brings the
// parts that live ([data-live]) to what they have become, node by node: so focus, scroll, open details and text in
// fields stay, nothing jumps, and there is no second renderer to keep in step. What a script owns is left alone
// ([data-keep], charts). A big page is fetched less often.
//
// On the map besides: a filter, and what is joined to the card under the pointer.

import { localTimes } from "./app.js";

// ── bringing up to date ──

const EVERY_MS = 2000;
const BIG_PAGE_BYTES = 150_000;
const OWN_ATTRIBUTES = new Set(["open", "hidden"]);

let isFetching = false;
let nextAt = performance.now() + EVERY_MS;

// The class names that a script sets, which the server's markup must not take away.
const OWN_CLASSES = ["is-dim", "is-lit"];

const FIELDS = "input:not([type=hidden]), select, textarea";

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset?.node || "" : "";
}

function bringAttributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !OWN_ATTRIBUTES.has(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (OWN_ATTRIBUTES.has(name) || from.getAttribute(name) === value) continue;
    if (name === "class") {
      const own = OWN_CLASSES.filter((each) => from.classList.contains(each));
      from.setAttribute("class", [value, ...own].join(" ").trim());
    } else {
      from.setAttribute(name, value);
    }
  }
}

function bring(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  // What a script draws, a field that somebody may be filling, or a form that is under way.
  if ("keep" in from.dataset || from.matches(FIELDS)) return;
  if (from.nodeName === "FORM" && from.querySelector(`${FIELDS}, button:disabled`)) return;
  // Times were written in the reader's zone; they change only with their moment.
  if (from.nodeName === "TIME" && from.getAttribute("datetime") === to.getAttribute("datetime")) return;
  bringAttributes(from, to);
  bringChildren(from, to);
}

function bringChildren(from, to) {
  let here = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    if (here && !sameKind(here, wanted)) {
      // It may have moved down from here because what stood before it is gone.
      let later = here.nextSibling;
      while (later && !sameKind(later, wanted)) later = later.nextSibling;
      if (later && keyOf(wanted)) {
        while (here !== later) {
          const gone = here;
          here = here.nextSibling;
          gone.remove();
        }
      }
    }
    if (here && sameKind(here, wanted)) {
      bring(here, wanted);
      here = here.nextSibling;
    } else {
      from.insertBefore(document.importNode(wanted, true), here);
    }
  }
  while (here) {
    const gone = here;
    here = here.nextSibling;
    gone.remove();
  }
}

async function refresh() {
  const parts = document.querySelectorAll("[data-live]");
  if (isFetching || parts.length === 0 || performance.now() < nextAt) return;
  isFetching = true;
  const began = performance.now();
  let every = EVERY_MS;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
    if (answer.ok) {
      const text = await answer.text();
      if (text.length > BIG_PAGE_BYTES) every = 2 * EVERY_MS;
      const page = new DOMParser().parseFromString(text, "text/html");
      for (const part of parts) {
        const fresh = page.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
        if (fresh) bringChildren(part, fresh);
      }
      localTimes();
      filter();
    }
  } catch {
    // Terrace is away or the session has ended; app.js says so.
  }
  // Where a fetch takes long, most of the time shall not be spent fetching.
  nextAt = performance.now() + Math.max(every, 4 * (performance.now() - began)) - 500;
  isFetching = false;
}

document.addEventListener("terrace:map", refresh);

// ── the map's filter ──

const input = document.querySelector("#map-filter");

/** Names joined by what flows between them, from the curves' own words. */
function neighbours() {
  const joined = new Map();
  const join = (a, b) => joined.set(a, (joined.get(a) ?? new Set()).add(b));
  for (const edge of document.querySelectorAll(".map .edge")) {
    join(edge.dataset.from, edge.dataset.to);
    join(edge.dataset.to, edge.dataset.from);
  }
  return joined;
}

/** All that lies on the way through `name`, to the left and to the right. */
function wayThrough(names) {
  const order = ["listener", "route", "service", "instance"];
  const column = (name) => order.indexOf(name.split(":", 1)[0]);
  const joined = neighbours();
  const way = new Set(names);
  for (const step of [1, -1]) {
    let edge = [...names];
    while (edge.length > 0) {
      const next = edge.flatMap((name) => [...(joined.get(name) ?? [])].filter((to) => column(to) === column(name) + step));
      edge = next.filter((name) => !way.has(name));
      for (const name of edge) way.add(name);
    }
  }
  return way;
}

function light(way) {
  const nodes = document.querySelectorAll(".map [data-node]");
  for (const node of nodes) node.classList.toggle("is-dim", way !== null && !way.has(node.dataset.node));
  for (const edge of document.querySelectorAll(".map .edge")) {
    const isOn = way !== null && way.has(edge.dataset.from) && way.has(edge.dataset.to);
    edge.classList.toggle("is-lit", isOn);
    edge.classList.toggle("is-dim", way !== null && !isOn);
  }
}

let hovered = null;
const panel = document.querySelector(".map-panel");

function fits(wanted) {
  return [...document.querySelectorAll(".map [data-node]")].filter((node) => node.dataset.find.toLowerCase().includes(wanted));
}

function filter() {
  const wanted = input?.value.trim().toLowerCase() ?? "";
  if (panel) panel.dataset.light = wanted ? "filter" : "hover";
  if (wanted) {
    light(wayThrough(fits(wanted).map((node) => node.dataset.node)));
  } else {
    light(hovered ? wayThrough([hovered]) : null);
  }
}

if (input) {
  input.closest("[data-map-filter]").hidden = false;
  input.addEventListener("input", () => {
    filter();
    // On a big map it may be far below.
    if (input.value.trim()) fits(input.value.trim().toLowerCase())[0]?.scrollIntoView({ block: "nearest" });
  });
  const over = (event) => {
    const name = event.target.closest?.("[data-node]")?.dataset.node ?? null;
    if (name !== hovered) {
      hovered = name;
      filter();
    }
  };
  panel.addEventListener("pointerover", over);
  panel.addEventListener("focusin", over);
  panel.addEventListener("pointerleave", () => {
    hovered = null;
    filter();
  });
}
