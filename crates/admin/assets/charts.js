// Charts that move: takes the place of the drawings that the server made, with uPlot.
//
// All charts of a page are asked for together, at each step of the finest of them, and share their time axis, their cursor
// and their zoom. The server decides what a chart shows; here is only how it is drawn. Figures beside a chart are
// kept up to date too, so that whoever reads them instead of the curves sees the same.

// The page loads uplot/uPlot.iife.min.js before this: its authors minify no module.
const uPlot = window.uPlot;

const THIN = "\u202f";
const UNKNOWN = "–";

// ── numbers, as figures.rs writes them ──

function digits(value) {
  const size = Math.abs(value);
  const places = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return String(Number(value.toFixed(places)));
}

function number(value) {
  const size = Math.abs(value);
  if (size >= 999.5e6) return `${digits(value / 1e9)}G`;
  if (size >= 999.5e3) return `${digits(value / 1e6)}M`;
  if (size >= 999.5) return `${digits(value / 1e3)}k`;
  return size > 0 && size < 0.005 ? "<0.01" : digits(value);
}

function seconds(value) {
  const size = Math.abs(value);
  if (size === 0) return `0${THIN}ms`;
  if (size < 999.5e-6) return `${digits(value * 1e6)}${THIN}µs`;
  if (size < 0.9995) return `${digits(value * 1e3)}${THIN}ms`;
  if (size < 99.95) return `${digits(value)}${THIN}s`;
  return size < 5997 ? `${digits(value / 60)}${THIN}min` : `${digits(value / 3600)}${THIN}h`;
}

function share(value) {
  const percent = value * 100;
  if (percent > 0 && percent < 0.005) return `<0.01${THIN}%`;
  if (percent > 99.995 && percent < 100) return `>99.99${THIN}%`;
  const text = percent >= 99 && percent < 100 ? String(Number(percent.toFixed(2))) : digits(percent);
  return `${text}${THIN}%`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (Math.abs(value) >= 999.5 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${digits(value)}${THIN}${units[at]}`;
}

const WRITERS = { rate: (value) => `${number(value)}/s`, share, seconds, bytes, number };

function written(unit, value) {
  return value === null || value === undefined || !Number.isFinite(value) ? UNKNOWN : WRITERS[unit](value);
}

// ── one chart ──

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const tone = (name) => colour(`--tone-${name}`);
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4], [4, 2, 1, 2], [1, 2], [10, 2]];

const sync = uPlot.sync("terrace");

/** Steps of 1, 2 and 5, in bytes of 1, 2, 4 …, so that the labels are round. */
function increments(unit) {
  const steps = [];
  if (unit === "bytes") for (let power = 0; power < 50; power += 1) steps.push(2 ** power);
  else for (let power = -9; power < 16; power += 1) for (const step of [1, 2, 5]) steps.push(Number(`${step}e${power}`));
  return steps;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const CLOCK_SECONDS = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

/** A moment on the axis, as exact as the ticks are apart; at midnight the day. */
function moment(tick, step) {
  const at = new Date(tick * 1000);
  if (step >= 86400 || (at.getHours() === 0 && at.getMinutes() === 0 && step >= 60)) return DAY.format(at);
  return (step < 60 ? CLOCK_SECONDS : CLOCK).format(at);
}

/** Where a point has no neighbour; nothing where none is alone. */
function alone(points) {
  const isKnown = (at) => points[at] !== null && points[at] !== undefined;
  const found = Array.from(points.keys()).filter((at) => isKnown(at) && !isKnown(at - 1) && !isKnown(at + 1));
  return found.length > 0 ? found : null;
}

class LiveChart {
  constructor(figure, group) {
    this.figure = figure;
    this.group = group;
    this.unit = figure.dataset.unit;
    this.isStacked = "stacked" in figure.dataset;
    this.isLog = false;
    this.place = figure.querySelector(".plot");
    this.shape = "";
    this.plot = null;
    const button = figure.querySelector("[data-log]");
    if (button) {
      button.hidden = false;
      button.addEventListener("click", () => {
        this.isLog = !this.isLog;
        button.setAttribute("aria-pressed", String(this.isLog));
        this.rebuild();
      });
    }
    figure.querySelector("details.data")?.addEventListener("toggle", () => this.table());
    new ResizeObserver(() => this.resize()).observe(this.place);
  }

  take(data) {
    this.data = data;
    const isEmpty = data.lines.every((line) => line.points.every((point) => point === null));
    this.figure.querySelector(":scope > .empty")?.toggleAttribute("hidden", !isEmpty);
    this.place.hidden = isEmpty;
    if (isEmpty) return;
    const shape = data.lines.map((line) => `${line.name} ${line.tone}`).join("\n");
    if (this.plot && shape === this.shape) {
      this.plot.setData(this.columns(), false);
      if (!this.group.zoom) this.plot.setScale("x", this.extent());
      else this.plot.redraw();
    } else {
      this.shape = shape;
      this.rebuild();
    }
    this.legend();
    this.table();
  }

  times() {
    const count = Math.max(0, ...this.data.lines.map((line) => line.points.length));
    return Array.from({ length: count }, (_, index) => this.data.at - (count - 1 - index) * this.data.step);
  }

  extent() {
    const times = this.times();
    return { min: times[0], max: times[times.length - 1] };
  }

  /** The columns uPlot draws: times, and each line; stacked ones as sums from below. */
  columns() {
    const lines = this.data.lines.map((line) => line.points);
    if (!this.isStacked) return [this.times(), ...lines.map((points) => (this.isLog ? points.map((point) => (point > 0 ? point : null)) : points))];
    const sums = [];
    for (const points of lines) {
      const under = sums[sums.length - 1];
      sums.push(points.map((point, index) => (point ?? 0) + (under ? under[index] : 0)));
    }
    return [this.times(), ...sums];
  }

  rebuild() {
    if (!this.data) return;
    this.plot?.destroy();
    this.place.replaceChildren();
    const width = Math.max(this.place.clientWidth, 200);
    this.plot = new uPlot({ ...this.options(), width, height: this.height() }, this.columns(), this.place);
    if (this.group.zoom) this.plot.setScale("x", this.group.zoom);
  }

  height() {
    return Math.round(parseFloat(getComputedStyle(this.place).minHeight)) || 170;
  }

  resize() {
    const width = this.place.clientWidth;
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.height() });
  }

  options() {
    const axis = { stroke: colour("--ink-3"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    axis.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const scaleY = this.isLog ? { distr: 3 } : { range: (_, least, most) => [Math.min(0, least ?? 0), most > 0 ? most * 1.06 : 1] };
    return {
      legend: { show: false },
      cursor: {
        sync: { key: sync.key, setSeries: false },
        drag: { x: true, y: false, setScale: true },
        points: { size: 6 },
        bind: { dblclick: () => () => (this.group.backToNow(), null) },
      },
      scales: { x: { time: true }, y: scaleY },
      series: [{}, ...this.data.lines.map((line, index) => this.series(line, index))],
      axes: [
        { ...axis, space: 84, size: 24, values: (_, ticks, _axis, _space, step) => ticks.map((tick) => moment(tick, step)) },
        { ...axis, size: 62, space: 32, incrs: increments(this.unit), values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : written(this.unit, tick))) },
      ],
      hooks: {
        setCursor: [(plot) => this.legend(plot.cursor.idx)],
        setSelect: [(plot) => this.group.zoomTo(plot)],
      },
      bands: this.isStacked ? this.bands() : undefined,
      padding: [10, 26, 0, 0],
    };
  }

  series(line, index) {
    const stroke = tone(line.tone);
    // A layer of a stack has no line of its own, or one that is empty would colour the one below it.
    if (this.isStacked) return { label: line.name, fill: `color-mix(in srgb, ${stroke} 62%, ${colour("--surface")})`, width: 0, points: { show: false } };
    // No line leads to a point without neighbours: where little happens it is all there is.
    const points = { show: false, size: 5, width: 0, stroke, fill: stroke, filter: (plot, at) => alone(plot.data[at]) };
    return { label: line.name, stroke, width: 1.5, dash: DASHES[index % DASHES.length], points, spanGaps: false };
  }

  bands() {
    return this.data.lines.slice(1).map((line, index) => ({ series: [index + 2, index + 1], fill: `color-mix(in srgb, ${tone(line.tone)} 62%, ${colour("--surface")})` }));
  }

  /** Figures beside the chart: of the moment under the cursor, of the last one without. */
  legend(at = this.plot?.cursor.idx) {
    const rows = this.figure.querySelector(".legend tbody");
    if (!rows || !this.data) return;
    if (this.listed !== this.shape) this.legendRows(rows);
    this.data.lines.forEach((line, index) => {
      const known = line.points.filter((point) => point !== null);
      const last = line.points.slice(-3).filter((point) => point !== null).pop();
      const now = at === null || at === undefined ? last : line.points[at];
      const cells = rows.rows[index].cells;
      const least = known.length ? known.reduce((a, b) => Math.min(a, b)) : null;
      const most = known.length ? known.reduce((a, b) => Math.max(a, b)) : null;
      [now, least, most].forEach((value, cell) => put(cells[cell + 1], written(this.unit, value)));
    });
    const head = this.figure.querySelector(".legend thead th:nth-child(2)");
    const time = at === null || at === undefined ? null : this.times()[at];
    put(head, time ? CLOCK_SECONDS.format(new Date(time * 1000)) : "now");
  }

  legendRows(rows) {
    this.listed = this.shape;
    rows.replaceChildren(
      ...this.data.lines.map((line, index) => {
        const row = document.createElement("tr");
        const name = document.createElement("th");
        name.scope = "row";
        name.append(swatch(line.tone, this.isStacked, this.isStacked ? [] : DASHES[index % DASHES.length]), line.name);
        row.append(name);
        for (let cell = 0; cell < 3; cell += 1) {
          const value = document.createElement("td");
          value.className = "num";
          row.append(value);
        }
        return row;
      }),
    );
  }

  /** The table under the chart, only while it is looked at. */
  table() {
    const details = this.figure.querySelector("details.data");
    if (!details?.open || !this.data) return;
    const table = details.querySelector("table");
    const times = this.times();
    const every = Math.max(1, Math.ceil(times.length / 20));
    const head = document.createElement("tr");
    head.append(cell("th", "time", "col"), ...this.data.lines.map((line) => cell("th", line.name, "col", "num")));
    const rows = [];
    for (let index = times.length - 1; index >= 0; index -= every) {
      const row = document.createElement("tr");
      row.append(cell("th", CLOCK_SECONDS.format(new Date(times[index] * 1000)), "row"));
      for (const line of this.data.lines) row.append(cell("td", written(this.unit, line.points[index]), null, "num"));
      rows.push(row);
    }
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...rows);
  }
}

function put(cell, text) {
  if (cell && cell.textContent !== text) cell.textContent = text;
}

function cell(kind, text, scope, className) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (scope) made.scope = scope;
  if (className) made.className = className;
  return made;
}

function swatch(name, isLayer, dash) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `swatch tone-${name}${isLayer ? " layer" : ""}`);
  svg.setAttribute("viewBox", "0 0 18 8");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("class", "line");
  path.setAttribute("d", "M1 4H17");
  if (dash.length) path.setAttribute("stroke-dasharray", dash.join(" "));
  svg.append(path);
  return svg;
}

// ── all charts of a page ──

class Group {
  constructor(section) {
    this.section = section;
    this.zoom = null;
    this.step = 1;
    this.charts = new Map();
    for (const figure of section.querySelectorAll("[data-chart]")) this.charts.set(figure.dataset.chart, new LiveChart(figure, this));
    this.note = section.querySelector("[data-range-note]");
    this.again = section.querySelector("[data-live-again]");
    this.again.addEventListener("click", () => this.backToNow());
    for (const link of section.querySelectorAll("[data-range]")) link.addEventListener("click", (event) => this.choose(event, link));
    document.addEventListener("terrace:map", () => this.tick());
    this.fetch();
  }

  choose(event, link) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    for (const each of this.section.querySelectorAll("[data-range]")) each.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    this.section.dataset.last = link.dataset.range;
    const url = new URL(location.href);
    url.searchParams.set("last", link.dataset.range);
    history.replaceState(null, "", url);
    this.zoom = null;
    this.told();
    this.fetch();
  }

  tick() {
    const due = Math.max(2000, this.step * 1000);
    if (!document.hidden && performance.now() - this.at >= due - 300) this.fetch();
  }

  async fetch() {
    if (this.isFetching) return;
    this.isFetching = true;
    this.at = performance.now();
    const last = this.section.dataset.last;
    try {
      const answer = await fetch(`${this.section.dataset.charts}&last=${last}`, { headers: { accept: "application/json" } });
      if (answer.ok) this.take(await answer.json());
    } catch {
      // Terrace is away; app.js says so, and the charts stand still.
    }
    this.isFetching = false;
    // Another range was chosen while this one came.
    if (last !== this.section.dataset.last) this.fetch();
  }

  take({ charts }) {
    const steps = charts.map((chart) => chart.step).filter((step) => step > 0);
    this.step = steps.length ? Math.min(...steps) : 5;
    for (const data of charts) this.charts.get(data.id)?.take(data);
  }

  zoomTo(plot) {
    const { left, width } = plot.select;
    if (width < 8) return;
    this.zoom = { min: plot.posToVal(left, "x"), max: plot.posToVal(left + width, "x") };
    for (const chart of this.charts.values()) chart.plot?.setScale("x", this.zoom);
    this.told();
  }

  backToNow() {
    this.zoom = null;
    for (const chart of this.charts.values()) if (chart.data) chart.plot?.setScale("x", chart.extent());
    this.told();
  }

  told() {
    this.again.hidden = !this.zoom;
    const clock = (at) => CLOCK_SECONDS.format(new Date(at * 1000));
    this.note.textContent = this.zoom ? `${clock(this.zoom.min)} to ${clock(this.zoom.max)}` : "";
  }

  recolour() {
    for (const chart of this.charts.values()) chart.rebuild();
  }
}

const groups = [...document.querySelectorAll("[data-charts]")].map((section) => new Group(section));
const recolour = () => groups.forEach((group) => group.recolour());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
