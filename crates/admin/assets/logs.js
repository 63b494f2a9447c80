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

document.addEventListener("terrace:log", (event) => {
  const follows = isAtEnd();
  // Made and escaped by the server, by the same code as the page; scripts in it would not run under our policy either.
  const template = document.createElement("template");
  template.innerHTML = event.detail;
  const fresh = template.content;
  unseen += fresh.children.length;
  localTimes(fresh);
  rows.append(fresh);
  log.querySelector(".empty")?.remove();
  if (follows) {
    while (rows.children.length > ROWS_MAX) rows.firstElementChild.remove();
    toEnd();
  } else {
    more.textContent = unseen === 1 ? "1 new line" : `${unseen} new lines`;
    more.hidden = false;
    // Whoever reads further up is not pushed away; but memory has an end too.
    while (rows.children.length > 5 * ROWS_MAX) rows.firstElementChild.remove();
  }
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
