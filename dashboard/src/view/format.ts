/** Facts as short text. Null is a fact too: it is not known. */

import type { Received } from "../api";
import type { Answer, Site, Time } from "../shapes";

export const UNKNOWN = "–";
const SEGMENTS_SHOWN = 3;

/** Two units at most: nobody acts on the seconds of a day-old checkout. */
export function duration(seconds: number | null): string {
  if (seconds === null || Number.isNaN(seconds)) return UNKNOWN;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return twoUnits(whole, 60, "min", 1, "s");
  if (whole < 86_400) return twoUnits(whole, 3600, "h", 60, "min");
  return twoUnits(whole, 86_400, "d", 3600, "h");
}

/** For what is past: nobody needs more than one unit of it. */
export function roughDuration(seconds: number): string {
  return duration(seconds).replace(/^(\d+ \S+) .*$/, "$1");
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

/** A time of the server on the reader's clock, in milliseconds since the epoch: neither clock need be right. */
export function sinceOf({ now, receivedAt }: Received<Pick<Answer, "now">>, time: Time): number {
  return receivedAt - (Date.parse(now) - Date.parse(time));
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
export const fullPlace = ({ filename, lineno }: Pick<Site, "filename" | "lineno">): string => `${filename}:${lineno}`;
export const fullSite = (site: Site): string => `${site.filename}:${site.lineno} in ${site.function}`;

export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`;
}

/** Parts between which a name may be broken over two lines: after a slash or hyphen, and before a capital. */
export function breakable(name: string): string[] {
  return name.split(/(?<=[A-Za-z0-9>][/\\-])(?=[\w<])|(?<=[a-z])(?=[A-Z])/);
}

/** "14:05:30", in the reader's time zone. */
export const localTime = (secondsSinceEpoch: number): string =>
  new Date(secondsSinceEpoch * 1000).toLocaleTimeString("en-GB");
