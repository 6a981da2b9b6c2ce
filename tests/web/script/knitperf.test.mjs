import assert from "node:assert/strict";
import { test } from "node:test";

import { script } from "./module.mjs";

const {
  costOf, durationText, pollPause, rateText, refreshPause, replaceContent, spanUrl, timeText, untilText, usualCost,
  zoneText,
} = script;
const NBSP = "\u00a0";

test("a time is in the zone of the viewer", () => {
  process.env.TZ = "America/St_Johns";
  assert.equal(timeText(0, "full"), "1969-12-31 20:30:00");
  process.env.TZ = "Asia/Kathmandu";
  assert.equal(timeText(1_700_000_000, "full"), "2023-11-15 03:58:20");
});

test("midnight is the hour zero", () => {
  process.env.TZ = "UTC";
  assert.equal(timeText(1_700_006_400, "time"), "00:00");
  assert.equal(timeText(1_700_006_400, "full"), "2023-11-15 00:00:00");
});

test("a time has the form that its element names", () => {
  process.env.TZ = "UTC";
  assert.deepEqual(
    ["second", "time", "day", "full"].map(form => timeText(1_709_597_105, form)),
    ["00:05:05", "00:05", "Mar 05", "2024-03-05 00:05:05"],
  );
});

test("a moment has its day and its time", () => {
  process.env.TZ = "Asia/Kathmandu";
  assert.equal(timeText(1_709_597_105, "moment"), "5 Mar 05:50:05".replaceAll(" ", NBSP));
  assert.equal(timeText(1_709_597_105, "minute"), `2024-03-05${NBSP}05:50`);
});

test("the end of a period has its day where that is another one for the viewer", () => {
  const [since, until] = [1_709_590_000, 1_709_597_105];
  process.env.TZ = "UTC";
  assert.equal(untilText(since, until), "5 Mar 00:05:05".replaceAll(" ", NBSP));
  process.env.TZ = "America/St_Johns";
  assert.equal(untilText(since, until), "20:35:05");
});

test("another span keeps the query but for the window and the answer to a command", () => {
  const url = new URL(spanUrl("http://mill/perf/why?of=a%26b&method=GET&window=1h&done=clear", 60, 120));
  assert.equal(url.pathname, "/perf/why");
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    of: "a&b", method: "GET", since: "1970-01-01T00:01:00", until: "1970-01-01T00:02:00",
  });
});

test("another span replaces the one before, in whole seconds", () => {
  const url = new URL(spanUrl("http://mill/perf/?since=2024-01-01&until=2024-01-02#endpoints", 59.6, 119.5));
  assert.equal(url.searchParams.get("since"), "1970-01-01T00:01:00");
  assert.equal(url.searchParams.get("until"), "1970-01-01T00:02:00");
  assert.equal(url.searchParams.getAll("since").length, 1);
});

test("the pause doubles with each failure up to a minute, give or take a tenth", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 50].map(failures => pollPause(failures, 0.5)),
    [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  assert.equal(pollPause(0, 0), 1800);
  assert.ok(Math.abs(pollPause(0, 1) - 2200) < 1e-6);
});

test("a duration has the unit that suits it", () => {
  const texts = {
    0: "0 ms", 0.0004: "400 ns", 0.4: "400 µs", 0.9949: "995 µs", 0.995: "1.0 ms", 9.94: "9.9 ms", 9.96: "10 ms",
    230: "230 ms", 994.9: "995 ms", 995: "1.0 s", 5600: "5.6 s", 60_000: "60.0 s", 599_400: "599 s",
    600_000: "10 min", 7_200_000: "2.0 h", 4e9: "1,111 h",
  };
  for (const [ms, text] of Object.entries(texts)) assert.equal(durationText(Number(ms)), text.replace(" ", NBSP));
  assert.equal(durationText(null), "–");
});

test("a rate is per second, minute or hour", () => {
  const texts = [
    [12.44, "12.4 requests/s"], [2, "2 requests/s"], [1, "1 request/s"], [1234.6, "1,235 requests/s"],
    [0.5, "30 requests/min"], [1 / 60, "1 request/min"], [1 / 600, "6 requests/h"], [0, "0 requests/h"],
  ];
  for (const [perSecond, text] of texts) assert.equal(rateText(perSecond), text.replace(" ", NBSP));
});

test("a rate that is not zero is never shown as zero", () => {
  assert.equal(rateText(1e-6), `<${NBSP}0.1${NBSP}requests/h`);
});

test("the module does nothing where there is no page", () => {
  assert.equal(typeof document, "undefined");
  assert.equal(typeof replaceContent, "function");
});

test("many open pages together poll as often as five", () => {
  assert.deepEqual([1, 5, 10, 20].map(pages => pollPause(0, 0.5, pages)), [2000, 2000, 4000, 8000]);
});

test("a page that the server takes long for is replaced less often", () => {
  assert.deepEqual([0, 30, 80].map(cost => refreshPause(cost, 1)), [30_000, 30_000, 80_000]);
  assert.equal(refreshPause(80, 20), 320_000);
});

test("the cost of a page is read from its header and from its entry", () => {
  assert.equal(costOf("page;dur=83.4"), 83.4);
  assert.equal(costOf([{ name: "page", duration: 12 }]), 12);
  assert.deepEqual([null, "", "other;dur=3", []].map(costOf), [0, 0, 0, 0]);
});

test("the cost of a page is the lower one of its last two, and unknown before the second", () => {
  assert.deepEqual([[], [300], [300, 50], [300, 50, 400], [50, 400, 300]].map(usualCost), [0, 0, 50, 50, 300]);
});

test("the zone is that of the moment, and both where a switch lies between", () => {
  const [winter, summer] = [1_700_000_000, 1_720_000_000];
  process.env.TZ = "Europe/Berlin";
  assert.deepEqual([[winter], [summer], [summer, winter]].map(zoneText), ["CET", "CEST", "CEST/CET"]);
  process.env.TZ = "UTC";
  assert.equal(zoneText([winter, summer]), "UTC");
});
