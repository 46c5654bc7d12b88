/** What this page has seen of the pools since it was opened. */

import type { Engine, Live } from "../api";

export const MAX_SAMPLES = 900;
/** Beyond this the page was hidden or disconnected: a line across would claim what nobody saw. */
const GAP_SECONDS = 15;
const SHORTEST_SPAN_SECONDS = 60;

export interface Sample {
  /** Seconds since the epoch, on the server's clock. */
  at: number;
  engines: Readonly<Record<string, { used: number; max: number | null }>>;
}

export function addSample(samples: readonly Sample[], live: Live): Sample[] {
  const at = Date.parse(live.now) / 1000;
  const before = samples.filter((sample) => sample.at < at);
  const last = before.at(-1);
  const gap = last !== undefined && at - last.at > GAP_SECONDS ? [{ at: last.at + 1, engines: {} }] : [];
  return [...before, ...gap, { at, engines: seen(live.engines) }].slice(-MAX_SAMPLES);
}

function seen(engines: Engine[]): Sample["engines"] {
  return Object.fromEntries(engines.map(({ name, used, max }) => [name, { used, max }]));
}

/** The engines of all samples, in the order of their names, so that each has the same colour at every visit. */
export function engineNames(samples: readonly Sample[]): string[] {
  return [...new Set(samples.flatMap((sample) => Object.keys(sample.engines)))].sort();
}

type Line = (number | null)[];

export interface Chart {
  /** Seconds before the newest sample, so negative: "now" is at the right edge for every reader, in every time zone. */
  times: number[];
  used: Line[];
  capacity: Line[];
  span: number;
  top: number;
}

export function chart(samples: readonly Sample[], names: readonly string[]): Chart {
  const newest = samples.at(-1)?.at ?? 0;
  const times = samples.map((sample) => sample.at - newest);
  const used = names.map((name) => samples.map((sample) => sample.engines[name]?.used ?? null));
  const capacity = names.map((name) => samples.map((sample) => sample.engines[name]?.max ?? null));
  return {
    times,
    used,
    capacity,
    span: Math.max(SHORTEST_SPAN_SECONDS, -(times[0] ?? 0)),
    top: highest([...used, ...capacity]),
  };
}

function highest(lines: Line[]): number {
  return lines.flat().reduce<number>((top, value) => Math.max(top, value ?? 0), 1);
}
