/** What charts draw, worked out of the columns of the history. */

export type Values = readonly (number | null)[];

export interface Line {
  name: string;
  values: Values;
  /** "limit" is a dashed line that the others must not reach. */
  style: "steps" | "bars" | "limit";
  /** Index of the colour. */
  colour: number;
  /** Words beside the value in the legend. */
  note?: (index: number) => string;
}

export interface Chart {
  /** Seconds since the epoch, on the server's clock. */
  times: readonly number[];
  /** The right edge. */
  end: number;
  lines: readonly Line[];
}

/** A limit this many times as high as what it limits stays out of sight, or else nothing could be seen below it. */
const LIMIT_IN_SIGHT = 3;

/** The highest of what is to be seen; at least 1, so that nothing is drawn along the top of nothing. */
export function topOf({ lines }: Chart): number {
  const highest = (limits: boolean): number =>
    lines
      .filter(({ style }) => (style === "limit") === limits)
      .reduce((top, { values }) => values.reduce<number>((most, value) => Math.max(most, value ?? 0), top), 0);
  const used = highest(false);
  const limit = highest(true);
  return Math.max(1, used, limit <= used * LIMIT_IN_SIGHT ? limit : 0);
}

/** The last point is in the making: not every worker has told of it yet. */
export const told = (values: Values): Values => values.slice(0, -1);

export function timesOf(start: string, step: number, points: number): number[] {
  const first = Date.parse(start) / 1000;
  return Array.from({ length: points }, (_none, index) => first + index * step);
}

/** What was counted between two points, as a number per minute. */
export const perMinute = (values: Values, step: number): Values =>
  values.map((value) => (value === null ? null : (value * 60) / step));

export const total = (values: Values): number => values.reduce<number>((sum, value) => sum + (value ?? 0), 0);

export const isEmpty = (values: Values): boolean => values.every((value) => value === null);
