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

/** For what is over and was short: whole seconds would make nothing of it. */
export function exactDuration(seconds: number): string {
  if (seconds < 1) return `${Math.round(Math.max(0, seconds) * 1000)} ms`;
  return seconds < 60 ? `${(Math.floor(seconds * 10) / 10).toFixed(1)} s` : duration(seconds);
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

/** Parts between which a name may be broken over two lines: after a slash or hyphen, and before a capital. */
export function breakable(name: string): string[] {
  return name.split(/(?<=[A-Za-z0-9>][/\\-])(?=[\w<])|(?<=[a-z])(?=[A-Z])/);
}
