// A little on top of pages that work without it: the ticker, an order's progress, uploads with a bar.

document.documentElement.classList.add("js");

/** Seconds to wait before trying again: twice as long each time, up to half a minute, and never all at once. */
const pause = (attempt) => Math.min(30, 2 ** attempt) * (0.5 + Math.random() / 2);

/** "12 seconds ago" */
function ago(at) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(at)) / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 90) return `${seconds} seconds ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} minutes ago`;
  return `${Math.round(seconds / 3600)} hours ago`;
}

function ticker(element) {
  let attempt = 0;
  let news = null;
  const show = () => {
    if (!news) return;
    const people = news.people === 1 ? "You are the only one shopping" : `${news.people} people are shopping`;
    const last = news.product ? ` · last bought: ${news.product}, ${ago(news.at)}` : "";
    element.textContent = people + last;
  };
  const connect = () => {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${element.dataset.live}`);
    socket.onopen = () => { attempt = 0; element.toggleAttribute("data-on", true); };
    socket.onmessage = (event) => { news = JSON.parse(event.data); show(); };
    socket.onclose = () => {
      element.toggleAttribute("data-on", false);
      setTimeout(connect, pause(attempt++) * 1000);
    };
  };
  // A screen reader is told once, not every few seconds.
  setTimeout(() => element.removeAttribute("role"), 5000);
  setInterval(show, 10000);
  connect();
}

function order(section) {
  const text = section.querySelector("[data-status-text]");
  const steps = [...section.querySelectorAll("[data-step]")];
  const source = new EventSource(section.dataset.orderEvents);
  const show = (event) => {
    const news = JSON.parse(event.data);
    if (news.status === "declined") return location.reload();
    const at = steps.findIndex((step) => step.dataset.step === news.status);
    text.textContent = news.text;
    steps.forEach((step, i) => {
      step.toggleAttribute("data-done", i <= at);
      if (i === at) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    });
  };
  source.addEventListener("status", show);
  source.addEventListener("done", (event) => { source.close(); show(event); });
  source.addEventListener("gone", () => source.close());
  // "bye" needs no answer: the browser comes back by itself.
}

function upload(form) {
  const [bar, status] = [form.querySelector("progress"), form.querySelector("[data-upload-status]")];
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const file = form.querySelector("input[type=file]").files[0];
    if (!file) return;
    const request = new XMLHttpRequest(); // fetch cannot tell how far an upload is
    request.open("POST", form.dataset.upload);
    request.responseType = "json";
    request.upload.onprogress = (e) => { bar.value = e.lengthComputable ? (100 * e.loaded) / e.total : 0; };
    request.onloadend = () => {
      bar.hidden = true;
      const answer = request.response;
      if (request.status !== 201) {
        status.textContent = answer?.detail ?? "The upload broke off; try again.";
        return;
      }
      status.textContent = `${answer.note} (${answer.bytes} bytes, SHA-256 ${answer.sha256.slice(0, 12)}…)`;
      if (answer.photo) showPhoto(answer.photo);
      form.reset();
    };
    bar.value = 0;
    bar.hidden = false;
    request.send(file);
  });
}

function showPhoto(address) {
  document.querySelector("[data-no-photos]")?.remove();
  const gallery = document.querySelector("[data-gallery]");
  if (gallery.querySelector(`img[src="${address}"]`)) return;
  const [item, image] = [document.createElement("li"), document.createElement("img")];
  image.src = address;
  image.alt = "Your photo";
  item.append(image);
  gallery.prepend(item);
}

for (const element of document.querySelectorAll("[data-live]")) ticker(element);
for (const element of document.querySelectorAll("[data-order-events]")) order(element);
for (const element of document.querySelectorAll("[data-upload]")) upload(element);
for (const form of document.querySelectorAll("[data-submit-on-change]")) {
  form.querySelector("select").addEventListener("change", () => form.requestSubmit());
}
for (const form of document.querySelectorAll("[data-submit-once]")) {
  form.addEventListener("submit", () => { form.querySelector("button:not([type=button])").disabled = true; });
}
// A page that comes back from the browser's memory must not keep its button disabled.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const button of document.querySelectorAll("[data-submit-once] button")) button.disabled = false;
});
