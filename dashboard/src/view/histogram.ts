import type { Histogram } from "../shapes";
import { seconds } from "./numbers";

export interface HistogramRow {
  range: string;
  count: number;
  /** Of the longest bar. */
  share: number;
}

/** The ranges from the first to the last that occurred. */
export function histogramRows({ bounds, counts }: Histogram): HistogramRow[] {
  const first = counts.findIndex((count) => count > 0);
  const last = counts.length - 1 - [...counts].reverse().findIndex((count) => count > 0);
  if (first < 0) return [];
  const most = Math.max(...counts);
  return counts.slice(first, last + 1).map((count, index) => ({
    range: rangeOf(bounds, first + index),
    count,
    share: count / most,
  }));
}

function rangeOf(bounds: readonly number[], index: number): string {
  const bound = bounds[index];
  return bound === undefined ? `> ${seconds(bounds.at(-1))}` : `≤ ${seconds(bound)}`;
}

/** The bound below which this share of all lies; null where nothing was counted or no bound is high enough. */
export function quantile({ bounds, counts }: Histogram, share: number): number | null {
  const all = counts.reduce((sum, count) => sum + count, 0);
  let reached = 0;
  for (const [index, count] of counts.entries()) {
    reached += count;
    if (all > 0 && reached >= share * all) return bounds[index] ?? null;
  }
  return null;
}
