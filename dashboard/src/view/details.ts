/** A finding's details in words: rules name them for programs, and put the lines of the log among them. */

import type { OneFinding, Site } from "../shapes";
import { exactDuration } from "./format";

export interface Detail {
  name: string;
  value: string | readonly string[] | Doing;
}

/** What somebody did, where that is known, and where. */
export interface Doing {
  what: string;
  site: Site;
}

type Facts = Record<string, unknown>;

const SECONDS = "_seconds";

const names: Readonly<Record<string, string>> = { status: "answered", holders: "held by" };

/** What is unknown or empty is left out; the lines come last, without those that repeat another detail. */
export function details({ details: given, resolved }: Pick<OneFinding, "details" | "resolved">): Detail[] {
  const { now, doing, lines, ...rest } = given;
  return [
    ...Object.entries(rest).map(([key, fact]) => ({ name: nameOf(key, fact), value: valueOf(key, fact) })),
    // What was so when the finding was told is over once it is resolved.
    { name: resolved ? "was" : "now", value: doingOf(doing, now) },
    { name: "also", value: valueOf("", unrepeated(lines, given)) },
  ].filter((detail): detail is Detail => detail.value !== null);
}

function nameOf(key: string, fact: unknown): string {
  // A number of objects is told by another rule, and those are saved.
  if (key === "objects" && typeof fact === "object") return "unsaved";
  const words = key.endsWith(SECONDS) ? key.slice(0, -SECONDS.length) : key;
  return names[key] ?? words.replaceAll("_", " ");
}

function doingOf(doing: unknown, now: unknown): Detail["value"] | null {
  const what = typeof doing === "string" ? doing : "";
  return isSite(now) ? { what, site: now } : valueOf("now", what === "" ? now : what);
}

function valueOf(key: string, fact: unknown): Detail["value"] | null {
  if (fact === null || fact === undefined || fact === "") return null;
  if (typeof fact === "number" && key.endsWith(SECONDS)) return exactDuration(fact);
  if (Array.isArray(fact)) return fact.length > 0 ? fact.map(plain) : null;
  if (isSite(fact)) return { what: "", site: fact };
  return typeof fact === "object" ? parts(key, fact) : plain(fact);
}

function parts(key: string, fact: object): string | null {
  const part = ([name, value]: [string, unknown]): string =>
    key === "objects" ? `${plain(value)} ${name}` : `${name}: ${plain(value)}`;
  return Object.entries(fact).map(part).join(", ") || null;
}

function isSite(fact: unknown): fact is Site {
  const { filename, lineno, function: name } = (fact ?? {}) as Partial<Facts>;
  return typeof filename === "string" && typeof lineno === "number" && typeof name === "string";
}

function unrepeated(lines: unknown, { now, doing, holders }: Facts): unknown {
  if (!Array.isArray(lines)) return lines;
  const held = Array.isArray(holders) ? holders.map((holder) => `held by ${plain(holder)}`) : [];
  const tellsNow = doingOf(doing, now) !== null;
  return lines.map(plain).filter((line) => !(tellsNow && line.startsWith("now ")) && !held.includes(line));
}

const plain = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
