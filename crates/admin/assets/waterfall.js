// Keys, folding and copying on the page of a trace. Rows are links to the details beside them, and stay so.

const waterfall = document.querySelector("[data-waterfall]");
const items = [...(waterfall?.querySelectorAll("li") ?? [])];
const depthOf = (item) => Number(item.dataset.depth);
const rowOf = (item) => item.querySelector(".span-row");
const folded = new Set();

/** The items below one, in the order of the list. */
function below(item) {
  const from = items.indexOf(item) + 1;
  let to = from;
  while (to < items.length && depthOf(items[to]) > depthOf(item)) to += 1;
  return items.slice(from, to);
}

function show() {
  let hiddenBelow = Infinity;
  for (const item of items) {
    if (depthOf(item) <= hiddenBelow) hiddenBelow = Infinity;
    item.hidden = hiddenBelow < Infinity;
    if (folded.has(item) && !item.hidden) hiddenBelow = depthOf(item);
    const fold = item.querySelector(".fold");
    if (fold.textContent.trim()) fold.textContent = folded.has(item) ? "▸" : "▾";
  }
}

function fold(item, isFolded) {
  if (isFolded && below(item).length > 0) folded.add(item);
  else folded.delete(item);
  show();
}

const details = document.querySelector(".details");

/** Shows the details of a span and marks its row. The address follows, so that it can be shared and loaded again. */
function showDetails(item) {
  const href = rowOf(item).getAttribute("href");
  for (const each of items) rowOf(each).toggleAttribute("aria-current", false);
  rowOf(item).setAttribute("aria-current", "true");
  for (const section of details.querySelectorAll(".span-detail")) {
    section.classList.toggle("is-chosen", `#${section.id}` === href);
  }
  details.dataset.led = "";
  history.replaceState(null, "", href);
}

function choose(item) {
  showDetails(item);
  rowOf(item).focus({ preventScroll: true });
  rowOf(item).scrollIntoView({ block: "nearest" });
}

function itemOfAddress() {
  return items.find((item) => rowOf(item).getAttribute("href") === location.hash);
}

function parentOf(item) {
  const before = items.slice(0, items.indexOf(item)).reverse();
  return before.find((other) => depthOf(other) < depthOf(item));
}

function onKey(event) {
  const item = event.target.closest("li");
  if (!item || event.altKey || event.ctrlKey || event.metaKey) return;
  const seen = items.filter((each) => !each.hidden);
  const at = seen.indexOf(item);
  const isFoldable = below(item).length > 0;
  const moves = {
    ArrowDown: () => seen[at + 1] && choose(seen[at + 1]),
    ArrowUp: () => seen[at - 1] && choose(seen[at - 1]),
    Home: () => choose(seen[0]),
    End: () => choose(seen[seen.length - 1]),
    ArrowLeft: () => (isFoldable && !folded.has(item) ? fold(item, true) : parentOf(item) && choose(parentOf(item))),
    ArrowRight: () => (folded.has(item) ? fold(item, false) : isFoldable && choose(below(item)[0])),
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
}

if (waterfall) {
  waterfall.addEventListener("keydown", onKey);
  waterfall.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (!item || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (event.target.closest(".fold")?.textContent.trim()) {
      fold(item, !folded.has(item));
      return;
    }
    choose(item);
    // On a phone the details are below, out of sight.
    if (details.getBoundingClientRect().top > innerHeight) details.scrollIntoView({ block: "start" });
  });
  // A span's details name its parent; that link leads here too.
  addEventListener("hashchange", () => itemOfAddress() && showDetails(itemOfAddress()));
  if (itemOfAddress()) showDetails(itemOfAddress());
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  const text = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = text), 1500);
  });
}
