/** Numbers as they are shown, and as they are drawn. */

const LEAST_SHARE = 0.12;

/** Heights of bars. The smallest that is not nothing can still be seen. */
export function barHeights(values: readonly (number | null)[], height: number): number[] {
  const top = values.reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
  return values.map((value) => ((value ?? 0) > 0 ? round(height * Math.max(LEAST_SHARE, (value ?? 0) / top)) : 0));
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** "1,234,567", "12.5", "0.08": never more digits than say something. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return value.toPrecision(2).replace(/\.0$/, "");
}

export function percent(share: number): string {
  if (share > 0 && share < 0.001) return "<0.1 %";
  const value = share * 100;
  return `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
}

/** Seconds that are over, from microseconds to days, with two or three digits. */
export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 s";
  if (value < 0.001) return `${Math.round(value * 1_000_000)} µs`;
  if (value < 1) return `${(value * 1000).toPrecision(value < 0.01 ? 2 : 3).replace(/\.0+$/, "")} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${(value / 60).toFixed(1)} min`;
  return value < 86_400 ? `${(value / 3600).toFixed(1)} h` : `${(value / 86_400).toFixed(1)} d`;
}
