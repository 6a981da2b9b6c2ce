// @ts-check
/**
 * What makes the pages live: times in the viewer's zone, charts with a cursor, and fresh figures.
 *
 * Every page works without this file. It only reads what the page already shows: a chart's figures are
 * the rows of its table, so the cursor, the arrow keys and a screen reader all tell the same numbers.
 */

const MINUTE_MS = 60_000;
const POLL_MS = 2_000;
const LONGEST_POLL_MS = MINUTE_MS;
const REFRESH_MS = 30_000;
const COST_FACTOR = 1000;
const FEW_PAGES = 5;
const OLD_MS = 10_000;
const LONGEST_ANSWER_MS = 10_000;
const NBSP = "\u00a0";
const SVG = "http://www.w3.org/2000/svg";
const SHORTEST_DRAG_PX = 8;

// -- times in the viewer's zone --------------------------------------------------------------------

/**
 * The forms of times of the server, each as a locale that has it and its options.
 * @type {Record<string, [string, Intl.DateTimeFormatOptions]>}
 */
const FORMS = {
  second: ["sv-SE", { hour: "2-digit", minute: "2-digit", second: "2-digit" }],
  time: ["sv-SE", { hour: "2-digit", minute: "2-digit" }],
  day: ["en-US", { month: "short", day: "2-digit" }],
  full: ["sv-SE", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  }],
  minute: ["sv-SE", { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" }],
};
/** @type {[string, Intl.DateTimeFormatOptions]} */
const DAY = ["en-US", { day: "numeric", month: "short" }];

/**
 * @param {number} seconds since the epoch
 * @param {string} form a key of FORMS, or "moment"
 * @returns {string}
 */
export function timeText(seconds, form) {
  const at = new Date(seconds * 1000);
  if (form === "moment") {
    const [month, day] = new Intl.DateTimeFormat(...DAY).format(at).split(" ");
    return [day, month, timeText(seconds, "second")].join(NBSP);
  }
  const text = new Intl.DateTimeFormat(...FORMS[form]).format(at);
  return form === "minute" ? text.replace(" ", NBSP) : text;
}

/**
 * Return the end of a period, with its day only if that is another one than that of the start.
 * @param {number} since seconds since the epoch
 * @param {number} until seconds since the epoch
 */
export function untilText(since, until) {
  const [first, last] = [since, until].map(seconds => new Date(seconds * 1000).toDateString());
  return timeText(until, first === last ? "second" : "moment");
}

/**
 * Return the name of the viewer's zone at some moments: summer and winter have different ones.
 * @param {number[]} moments seconds since the epoch
 */
export function zoneText(moments) {
  const names = moments.map(seconds => new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" })
    .formatToParts(new Date(seconds * 1000)).find(part => part.type === "timeZoneName")?.value ?? "local");
  return [...new Set(names)].join("/");
}

/** @param {ParentNode} root */
function showLocalTimes(root) {
  for (const element of root.querySelectorAll("[data-zone]")) {
    const { zone } = /** @type {HTMLElement} */ (element).dataset;
    element.textContent = zoneText(zone ? zone.split(" ").map(Number) : [Date.now() / 1000]);
  }
  for (const element of root.querySelectorAll("[data-time]")) {
    const { time, form, since } = /** @type {SVGElement | HTMLElement} */ (element).dataset;
    element.textContent = since === undefined
      ? timeText(Number(time), form ?? "full") : untilText(Number(since), Number(time));
  }
}

// -- charts ----------------------------------------------------------------------------------------

/**
 * @param {string} name of an element
 * @param {Record<string, string | number>} attributes
 */
function svgElement(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** A chart with a cursor: one point of it is chosen, by the pointer or by arrow keys. */
class Chart {
  /** @param {HTMLElement} figure */
  constructor(figure) {
    const { begins, ends, slot, left, right } = figure.dataset;
    this.begins = Number(begins);
    this.ends = Number(ends);
    this.slot = Number(slot);
    this.left = Number(left);
    this.right = Number(right);
    this.figure = figure;
    this.name = figure.dataset.chart ?? "chart";
    this.svg = /** @type {SVGSVGElement} */ (figure.querySelector("svg"));
    this.readout = /** @type {HTMLElement} */ (figure.querySelector(".readout"));
    this.resting = this.readout.textContent ?? "";
    /** @type {HTMLTableRowElement[]} */
    this.rows = [...figure.querySelectorAll("tbody tr")].map(
      row => /** @type {HTMLTableRowElement} */ (row)).reverse();
    this.heads = [...figure.querySelectorAll("thead th")].slice(1).map(head => head.textContent ?? "");
    /** @type {number | null} */
    this.chosen = null;
    /** @type {number | null} */
    this.dragged = null;
    const height = this.svg.viewBox.baseVal.height;
    this.cursor = svgElement("path", { class: "cursor", d: `M0 14V${height - 24}`, visibility: "hidden" });
    this.zoom = svgElement("rect", { class: "zoom", y: 14, height: height - 38, visibility: "hidden" });
    this.svg.append(this.cursor, this.zoom);
    this.listen();
    figure.querySelector("figcaption")?.append(this.pictureButton());
  }

  listen() {
    this.svg.setAttribute("tabindex", "0");
    this.svg.addEventListener("pointermove", event => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.dragged === null && this.choose(null));
    this.svg.addEventListener("pointerdown", event => this.press(event));
    this.svg.addEventListener("pointerup", event => this.release(event));
    this.svg.addEventListener("pointercancel", () => this.stopDrag());
    this.svg.addEventListener("blur", () => this.choose(null));
    this.svg.addEventListener("keydown", event => this.key(event));
  }

  /** @param {number} seconds */
  x(seconds) {
    return this.left + (seconds - this.begins) / (this.ends - this.begins) * (this.right - this.left);
  }

  /** @param {PointerEvent} event */
  placeOf(event) {
    const box = this.svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * this.svg.viewBox.baseVal.width;
    return Math.min(this.right, Math.max(this.left, x));
  }

  /** @param {number} x */
  secondsAt(x) {
    return this.begins + (x - this.left) / (this.right - this.left) * (this.ends - this.begins);
  }

  /** @param {number} index of a row */
  startOf(index) {
    return Number(this.rows[index].dataset.at);
  }

  /** @param {PointerEvent} event */
  point(event) {
    const x = this.placeOf(event);
    if (this.dragged !== null) {
      this.zoom.setAttribute("x", String(Math.min(x, this.dragged)));
      this.zoom.setAttribute("width", String(Math.abs(x - this.dragged)));
    }
    const at = this.secondsAt(x) - this.slot / 2;
    let nearest = 0;
    for (let index = 1; index < this.rows.length; index += 1) {
      if (Math.abs(this.startOf(index) - at) <= Math.abs(this.startOf(nearest) - at)) nearest = index;
    }
    this.choose(nearest);
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (event.button !== 0 || event.pointerType === "touch") return;
    this.dragged = this.placeOf(event);
    this.svg.setPointerCapture(event.pointerId);
    this.zoom.setAttribute("width", "0");
    this.zoom.setAttribute("visibility", "visible");
  }

  /** @param {PointerEvent} event */
  release(event) {
    const from = this.dragged;
    this.stopDrag();
    if (from === null) return;
    const to = this.placeOf(event);
    if (Math.abs(to - from) < SHORTEST_DRAG_PX) return;
    const [since, until] = [from, to].sort((a, b) => a - b).map(x => this.secondsAt(x));
    location.assign(spanUrl(location.href, since, Math.max(until, since + this.slot)));
  }

  stopDrag() {
    this.dragged = null;
    this.zoom.setAttribute("visibility", "hidden");
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const last = this.rows.length - 1;
    /** @type {Record<string, number | null>} */
    const moves = {
      ArrowLeft: Math.max(0, (this.chosen ?? last + 1) - 1),
      ArrowRight: Math.min(last, (this.chosen ?? -1) + 1),
      Home: 0, End: last, Escape: null,
    };
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.choose(moves[event.key]);
  }

  /** @param {number | null} index of a row */
  choose(index) {
    this.chosen = index;
    this.cursor.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) {
      delete this.figure.dataset.chosen;
      this.readout.textContent = this.resting;
      return;
    }
    this.figure.dataset.chosen = this.rows[index].dataset.at;
    const x = this.x(this.startOf(index) + this.slot / 2);
    this.cursor.setAttribute("transform", `translate(${x} 0)`);
    const [time, ...cells] = [...this.rows[index].cells].map(cell => cell.textContent ?? "");
    const figures = cells.map((text, place) =>
      text.includes(this.heads[place].replace(/s$/, "")) ? text : `${this.heads[place]} ${text}`);
    this.readout.textContent = `${time}: ${figures.join(", ")}`;
  }

  /** @param {string | undefined} at start of a row, in seconds since the epoch */
  chooseAt(at) {
    const index = this.rows.findIndex(row => row.dataset.at === at);
    if (index >= 0) this.choose(index);
  }

  /** @returns {HTMLButtonElement} */
  pictureButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet tools";
    button.textContent = "PNG";
    button.setAttribute("aria-label", `PNG of the chart ${this.name}`);
    button.addEventListener("click", () => void savePicture(this.svg, `${this.name}.png`));
    return button;
  }
}

/**
 * Return the address of a page for another span of time.
 * @param {string} href
 * @param {number} since seconds since the epoch
 * @param {number} until seconds since the epoch
 */
export function spanUrl(href, since, until) {
  const url = new URL(href);
  const iso = (/** @type {number} */ seconds) => new Date(Math.round(seconds) * 1000).toISOString().slice(0, 19);
  url.searchParams.delete("window");
  url.searchParams.delete("done");
  url.searchParams.set("since", iso(since));
  url.searchParams.set("until", iso(until));
  return url.href;
}

const PAINTED = [
  "fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "visibility", "font-size", "font-family",
  "text-anchor", "image-rendering",
];

/**
 * Save a chart as a picture, twice as large as it is drawn.
 * @param {SVGSVGElement} svg
 * @param {string} name of the file
 */
async function savePicture(svg, name) {
  const copy = /** @type {SVGSVGElement} */ (svg.cloneNode(true));
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, index) => {
    const style = getComputedStyle(originals[index]);
    for (const property of PAINTED) element.setAttribute(property, style.getPropertyValue(property));
    element.removeAttribute("class");
  });
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("xmlns", SVG);
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = width * 2;
  canvas.height = height * 2;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = getComputedStyle(svg.closest(".panel") ?? document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const link = document.createElement("a");
  link.download = name;
  link.href = canvas.toDataURL("image/png");
  link.click();
}

// -- fresh figures ---------------------------------------------------------------------------------

/**
 * @typedef {{at: string, sequence: number, seconds: number, count: number, failed: number}} LivePoint
 * @typedef {{
 *   sequence: number, run: string, workers: number, in_flight: number, requests: number, pages: number,
 *   firing: number | null, points: LivePoint[],
 *   minute: {seconds: number, count: number, failed: number, p50_ms: number | null, p95_ms: number | null},
 * }} Live
 */

/**
 * Return the factor of the pauses of a page, with which many pages poll as often as a few.
 * @param {number} pages that are open
 */
function patience(pages) {
  return Math.max(1, pages / FEW_PAGES);
}

/**
 * Return the pause before the next poll.
 * @param {number} failures polls that have failed in a row
 * @param {number} chance between 0 and 1
 * @param {number} pages that are open
 */
export function pollPause(failures, chance, pages = 1) {
  return Math.min(LONGEST_POLL_MS, POLL_MS * patience(pages) * 2 ** failures) * (0.9 + 0.2 * chance);
}

/**
 * Return the least time between two contents of a page: a page takes a thousandth of a core at most.
 * @param {number} cost milliseconds that the server took for it
 * @param {number} pages that are open
 */
export function refreshPause(cost, pages) {
  return Math.max(REFRESH_MS, cost * COST_FACTOR) * patience(pages);
}

/**
 * Return the cost of a page for the server: the lower one of the last two times, since the first page of a worker
 * imports what builds it; nothing is known before the second.
 * @param {number[]} costs of the page so far, in milliseconds
 */
export function usualCost(costs) {
  return costs.length < 2 ? 0 : Math.min(...costs.slice(-2));
}

/** @param {readonly PerformanceServerTiming[] | string | null} timing entries, or the header */
export function costOf(timing) {
  if (typeof timing === "string") return Number(/page;dur=([\d.]+)/.exec(timing)?.[1] ?? 0);
  return timing?.find(entry => entry.name === "page")?.duration ?? 0;
}

/**
 * The units of the server: name, milliseconds, from which duration on, and below which amount with a decimal.
 * @type {[string, number, number, number][]}
 */
const DURATIONS = [
  ["h", 3_600_000, 7_196_400, 9.95], ["min", MINUTE_MS, 599_500, 9.95], ["s", 1000, 995, 99.95],
  ["ms", 1, 0.995, 9.95], ["µs", 1e-3, 0.995e-3, 0], ["ns", 1e-6, 0, 0],
];

/**
 * @param {number} value
 * @param {number} decimals
 */
function grouped(value, decimals) {
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** @param {number | null} ms */
export function durationText(ms) {
  if (ms === null) return "–";
  if (ms === 0) return `0${NBSP}ms`;
  const [name, worth, , decimalBelow] = DURATIONS.find(([, , starts]) => ms >= starts) ?? DURATIONS[0];
  return `${grouped(ms / worth, ms / worth < decimalBelow ? 1 : 0)}${NBSP}${name}`;
}

/** @param {number} perSecond requests */
export function rateText(perSecond) {
  /** @type {[string, number][]} */
  const periods = [["s", 1], ["min", 60], ["h", 3600]];
  const [name, seconds] = periods.find(([, length]) => perSecond * length >= 0.995) ?? periods[2];
  const value = perSecond * seconds;
  const text = grouped(value, Number.isInteger(value) || value >= 99.95 ? 0 : 1);
  return `${text === "0.0" ? `<${NBSP}0.1` : text}${NBSP}request${text === "1" ? "" : "s"}/${name}`;
}

/** Polls, states how old the figures are, and replaces the content of the page when it has changed. */
class LivePage {
  /**
   * @param {string} url
   * @param {HTMLElement} line where the state is shown
   */
  constructor(url, line) {
    this.url = url;
    this.line = line;
    this.after = 0;
    this.etag = "";
    this.failures = 0;
    this.isAsking = false;
    this.name = Math.random().toString(36).slice(2, 10);
    const [opened] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
    this.costs = [costOf(opened?.serverTiming ?? null)];
    /** @type {Live | null} */
    this.shown = null;
    /** @type {Live | null} */
    this.rendered = null;
    /** @type {LivePoint[]} */
    this.points = [];
    this.freshAt = performance.now();
    this.refreshedAt = performance.now();
    this.paused = false;
    this.stopped = "";
    this.timer = 0;
    const button = /** @type {HTMLButtonElement} */ (line.querySelector("button"));
    button.addEventListener("click", () => this.pause(button));
    document.addEventListener("visibilitychange", () => this.wake());
    window.setInterval(() => this.showState(), 1000);
    line.hidden = false;
    void this.poll();
  }

  /** @param {HTMLButtonElement} button */
  pause(button) {
    this.paused = !this.paused;
    button.textContent = this.paused ? "Go on" : "Pause";
    document.body.classList.toggle("paused", this.paused);
    this.showState();
    this.wake();
  }

  wake() {
    window.clearTimeout(this.timer);
    if (!document.hidden && !this.paused && !this.stopped) void this.poll();
  }

  async poll() {
    if (this.isAsking) return;
    this.isAsking = true;
    const delivered = await this.ask().catch(() => false);
    this.isAsking = false;
    this.failures = delivered ? 0 : this.failures + 1;
    this.showState();
    window.clearTimeout(this.timer);
    if (document.hidden || this.paused || this.stopped) return;
    const pause = pollPause(this.failures, Math.random(), this.shown?.pages);
    this.timer = window.setTimeout(() => void this.poll(), pause);
  }

  /** @returns {Promise<boolean>} whether the server has answered */
  async ask() {
    const headers = this.etag ? { "If-None-Match": this.etag } : undefined;
    const signal = AbortSignal.timeout(LONGEST_ANSWER_MS);
    const url = `${this.url}?after=${this.after}&page=${this.name}`;
    const response = await fetch(url, { headers, signal, cache: "no-store" });
    if ([401, 403, 404].includes(response.status)) this.stopped = "Signed out: reload the page";
    if (response.status === 204 || response.status === 304) return true;
    if (!response.ok) return false;
    this.etag = response.headers.get("ETag") ?? "";
    this.show(/** @type {Live} */ (await response.json()));
    return true;
  }

  /** @param {Live} live */
  show(live) {
    if (live.sequence < this.after) this.points = [];
    this.points = [...this.points, ...live.points].slice(-150);
    this.after = live.sequence;
    this.shown = live;
    this.rendered ??= live;
    this.freshAt = performance.now();
    this.showMinute(live);
    const isOther = this.rendered.run !== live.run || this.rendered.firing !== live.firing;
    const isDue = this.freshAt - this.refreshedAt > refreshPause(usualCost(this.costs), live.pages);
    if (isOther || (isDue && this.rendered.requests !== live.requests)) void this.refresh(live);
  }

  /** @param {Live} live */
  showMinute(live) {
    const now = document.getElementById("now");
    if (now === null || live.minute.seconds === 0) return;
    const rate = live.minute.count / live.minute.seconds;
    const text = (/** @type {string} */ name, /** @type {string} */ value) => {
      const element = now.querySelector(name);
      if (element !== null) element.textContent = value;
    };
    const [number, unit] = rateText(rate).split(/\u00a0(?=request)/);
    text(".value", number);
    text(".about", `${unit}, p95 ${durationText(live.minute.p95_ms)}, ${live.in_flight} in flight`);
    const bars = now.querySelector("svg");
    if (bars !== null) bars.replaceChildren(...this.bars());
    now.hidden = false;
  }

  bars() {
    const points = this.points.slice(-60);
    const most = Math.max(1, ...points.map(point => point.count));
    return points.flatMap((point, index) => {
      const x = 100 - (points.length - index) * (100 / 60);
      const height = point.count / most * 22;
      const failed = point.failed / most * 22;
      return [
        svgElement("rect", { class: "pulse", x, width: 1.3, y: 24 - height, height }),
        svgElement("rect", { class: "pulse bad", x, width: 1.3, y: 24 - failed, height: failed }),
      ];
    });
  }

  /** @param {Live} live */
  async refresh(live) {
    const main = /** @type {HTMLElement} */ (document.querySelector("main"));
    if (new URL(location.href).searchParams.has("until") || isInUse(main)) return;
    const before = this.rendered;
    this.rendered = live;
    this.refreshedAt = performance.now();
    const fresh = await freshPage().catch(() => null);
    if (fresh === null) return;
    this.costs = [...this.costs, fresh.cost].slice(-2);
    if (this.paused || isInUse(main)) {
      this.rendered = before;
      return;
    }
    for (const selector of ["main", ".side nav"]) {
      const [old, content] = [document, fresh.page].map(root => root.querySelector(selector));
      if (old && content) replaceContent(old, content);
    }
    this.showMinute(this.shown ?? live);
  }

  showState() {
    const text = /** @type {HTMLElement} */ (this.line.querySelector(".text"));
    const age = performance.now() - this.freshAt;
    const isLate = age > OLD_MS * patience(this.shown?.pages ?? 1);
    const isOld = this.stopped !== "" || (isLate && !this.paused && !document.hidden);
    document.body.classList.toggle("old", isOld && this.shown !== null);
    const seconds = Math.round(age / 1000);
    const workers = this.shown === null ? "" : `, ${this.shown.workers} worker${this.shown.workers === 1 ? "" : "s"}`;
    if (this.stopped) text.textContent = this.stopped;
    else if (this.paused) text.textContent = "Paused";
    else if (this.failures > 1) text.textContent = `No answer for ${seconds} s`;
    else if (this.shown === null) text.textContent = "Waiting for figures";
    else text.textContent = isOld ? `Figures are ${seconds} s old` : `Live${workers}`;
  }
}

/** Return the page as it is now and its cost in milliseconds, null where the server refuses it. */
async function freshPage() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!response.ok) return null;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return { page, cost: costOf(response.headers.get("Server-Timing")) };
}

/**
 * Return whether someone works with the content: a form, a question, a chart being zoomed, or marked text.
 * @param {HTMLElement} main
 */
function isInUse(main) {
  const active = document.activeElement;
  const isTyping = active !== null && main.contains(active) && active.matches("input, select, textarea");
  const isBusy = main.querySelector("details.confirm[open], .zoom[visibility=visible]") !== null;
  return isTyping || isBusy || hasChangedFields(main)
    || !(document.getSelection()?.isCollapsed ?? true);
}

/**
 * Return whether a field has another value than the page gave it.
 * @param {HTMLElement} main
 */
function hasChangedFields(main) {
  const fields = /** @type {NodeListOf<HTMLInputElement>} */ (main.querySelectorAll("input, textarea"));
  const isOther = [...fields].some(field =>
    field.value !== field.defaultValue || field.checked !== field.defaultChecked);
  return isOther || [...main.querySelectorAll("select")].some(select =>
    select.value !== (select.querySelector("option[selected]") ?? select.options[0])?.getAttribute("value"));
}

const KEPT = "details, .scroll, a, button, summary, [tabindex]";

/**
 * Return elements by a key that the same element of a fresh page has too.
 * @param {ParentNode} root
 * @returns {Map<string, HTMLElement>}
 */
function keptElements(root) {
  const known = new Map();
  const counts = new Map();
  for (const element of root.querySelectorAll(KEPT)) {
    const section = element.closest("section")?.getAttribute("aria-labelledby");
    const alike = [element.localName, section, element.closest("[id]")?.id, element.getAttribute("href")].join(" ");
    const count = counts.get(alike) ?? 0;
    counts.set(alike, count + 1);
    known.set(`${alike} ${count}`, element);
  }
  return known;
}

/**
 * Replace the content of an element, and keep what is open, focused, scrolled and chosen in charts.
 * @param {Element} old
 * @param {Element} content
 */
export function replaceContent(old, content) {
  const before = [...keptElements(old)].map(([key, element]) => ({
    key, open: /** @type {HTMLDetailsElement} */ (element).open, left: element.scrollLeft, top: element.scrollTop,
    isFocused: element === document.activeElement,
  }));
  const chosen = new Map([...old.querySelectorAll("figure[data-chosen]")].map(figure => {
    const { chart, chosen: at } = /** @type {HTMLElement} */ (figure).dataset;
    return [chart, at];
  }));
  old.replaceChildren(...content.childNodes);
  enliven(old, chosen);
  const known = keptElements(old);
  for (const { key, open, left, top, isFocused } of before) {
    const element = known.get(key);
    if (element === undefined) continue;
    if (element instanceof HTMLDetailsElement) element.open = open;
    if (left || top) element.scrollTo(left, top);
    if (isFocused) element.focus({ preventScroll: true });
  }
}

/**
 * @param {ParentNode} root
 * @param {Map<string | undefined, string | undefined>} chosen start of the chosen row, by the name of a chart
 */
function enliven(root, chosen = new Map()) {
  showLocalTimes(root);
  for (const figure of root.querySelectorAll("figure[data-chart]")) {
    const chart = new Chart(/** @type {HTMLElement} */ (figure));
    chart.chooseAt(chosen.get(chart.name));
  }
}

if (typeof document !== "undefined") {
  enliven(document);
  const line = document.getElementById("live");
  const url = document.body.dataset.live;
  if (line !== null && url !== undefined) new LivePage(url, line);
}
