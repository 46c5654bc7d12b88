/** Which rows of a table are open. */

import type { Row } from "./live";

export type Opened<Fact> = ReadonlyMap<string, Row<Fact>>;

export function toggled<Fact>(opened: Opened<Fact>, row: Row<Fact>): Opened<Fact> {
  const next = new Map(opened);
  if (!next.delete(row.key)) next.set(row.key, row);
  return next;
}

export interface Shown<Fact> {
  row: Row<Fact>;
  open: boolean;
  /** It was open when its subject ceased to live, and stays until its reader closes it. */
  gone: boolean;
}

/**
 * The rows that are shown, then those which ended while somebody was reading them.
 *
 * @param all also the rows for which there is no room: these have not ended.
 */
export function shownRows<Fact>(
  rows: readonly Row<Fact>[],
  all: readonly Row<Fact>[],
  opened: Opened<Fact>,
): Shown<Fact>[] {
  if (opened.size === 0) return rows.map((row) => ({ row, open: false, gone: false }));
  const present = new Set(all.map((row) => row.key));
  const gone = [...opened.values()].filter((row) => !present.has(row.key));
  return [
    ...rows.map((row) => ({ row, open: opened.has(row.key), gone: false })),
    ...gone.map((row) => ({ row, open: true, gone: true })),
  ];
}
