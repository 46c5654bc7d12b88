/** Facts as short text. Null is a fact too: it is not known. */

import type { Site } from "../api";

export const UNKNOWN = "–";
const SEGMENTS_SHOWN = 3;

/** Two units at most: nobody acts on the seconds of a day-old checkout. */
export function duration(seconds: number | null): string {
  if (seconds === null) return UNKNOWN;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return twoUnits(whole, 60, "min", 1, "s");
  if (whole < 86_400) return twoUnits(whole, 3600, "h", 60, "min");
  return twoUnits(whole, 86_400, "d", 3600, "h");
}

function twoUnits(whole: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((whole % large) / small);
  return `${Math.floor(whole / large)} ${largeName} ${String(rest).padStart(2, "0")} ${smallName}`;
}

export function secondsBetween(later: string, earlier: string | null): number | null {
  const seconds = earlier === null ? NaN : (Date.parse(later) - Date.parse(earlier)) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

/** "2026-05-04 10:20:30 UTC" */
export function utc(time: string): string {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? time : `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

export function shortPath(filename: string): string {
  const segments = filename.split(/[/\\]/).filter(Boolean);
  return segments.length > SEGMENTS_SHOWN ? `…/${segments.slice(-SEGMENTS_SHOWN).join("/")}` : filename;
}

export const shortSite = (site: Site): string => `${shortPath(site.filename)}:${site.lineno} in ${site.function}`;
export const fullSite = (site: Site): string => `${site.filename}:${site.lineno} in ${site.function}`;

export function counted(count: number, noun: string): string {
  return `${count} ${count === 1 ? noun : `${noun}s`}`;
}

/** A finding's details are plain data of any shape; a list of strings is a text of several lines. */
export function plain(value: unknown): string {
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value.join("\n");
  return typeof value === "string" ? value : JSON.stringify(value);
}
