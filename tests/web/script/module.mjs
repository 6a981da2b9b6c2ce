// The script of the pages as a module: its file has no package that names it one.
import { readFileSync } from "node:fs";

const path = new URL("../../../flask_knitperf/web/static/knitperf.js", import.meta.url);

export const script = await import(`data:text/javascript,${encodeURIComponent(readFileSync(path, "utf8"))}`);
