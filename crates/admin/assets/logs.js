// The log follows what is said, keeps to the end while the reader is there, and waits while they read further up.
import { localTimes, restream } from "./app.js";

const ROWS_MAX = 1000;
const NEAR_PX = 40;

const log = document.getElementById("log");
const rows = log.querySelector("tbody");
const button = document.getElementById("follow");
const more = document.getElementById("new-lines");
const query = log.dataset.streamQuery;
let unseen = 0;

function isAtEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX;
}

function toEnd() {
  log.scrollTop = log.scrollHeight;
  unseen = 0;
  more.hidden = true;
}

// Made and escaped by the server, by the same code as the page; scripts in it would not run under our policy either.
function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  localTimes(template.content);
  return template.content;
}

function append(fresh) {
  if (fresh.children.length === 0) return;
  const follows = isAtEnd();
  unseen += fresh.children.length;
  rows.append(fresh);
  log.querySelector(".empty")?.remove();
  // Whoever reads further up is not pushed away; but memory has an end too.
  const kept = follows ? ROWS_MAX : 5 * ROWS_MAX;
  while (rows.children.length > kept) rows.firstElementChild.remove();
  if (follows) return toEnd();
  more.textContent = unseen === 1 ? "1 new line" : `${unseen} new lines`;
  more.hidden = false;
}

document.addEventListener("terrace:log", (event) => append(parse(event.detail)));

// What the stream begins with: of these the page has some, and lacks what was said while there was no stream.
document.addEventListener("terrace:log-start", (event) => {
  const have = new Map();
  for (const row of rows.children) have.set(row.dataset.key, (have.get(row.dataset.key) ?? 0) + 1);
  const fresh = parse(event.detail);
  let overlaps = rows.children.length === 0;
  for (const row of [...fresh.children]) {
    const count = have.get(row.dataset.key) ?? 0;
    if (count === 0) continue;
    have.set(row.dataset.key, count - 1);
    overlaps = true;
    row.remove();
  }
  if (!overlaps) rows.replaceChildren();
  append(fresh);
});

log.addEventListener("scroll", () => {
  if (isAtEnd() && unseen > 0) toEnd();
});

more.addEventListener("click", () => {
  toEnd();
  log.focus();
});

button.hidden = false;
button.addEventListener("click", () => {
  const follows = button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-pressed", String(!follows));
  if (follows) delete log.dataset.streamQuery;
  else log.dataset.streamQuery = query;
  restream();
});

toEnd();
