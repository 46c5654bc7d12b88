/** A table that can be sorted and whose rows may open; below a certain width each row becomes a card (tables.css). */

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";

import { useFilters } from "../router";
import type { Row } from "../view/live";
import { number } from "../view/numbers";
import { type Opened, type Shown, shownRows, toggled } from "../view/opened";
import { ariaSort, nextOrder, type Order, parseOrder, sorted, type SortKey } from "../view/sorting";
import { StoppedClock } from "./clock";
import { Chevron } from "./icons";
import { Badge } from "./labels";

/** More rows at once are read by nobody, and slow every refresh. */
const ROWS_AT_FIRST = 50;
const ROWS_MORE = 100;

export interface Column<Fact> {
  title: string;
  cell: (row: Row<Fact>) => ComponentChildren;
  /** "head" names the row; "number" is aligned on its digits; "wide" may take what room is left. */
  kind?: "head" | "number" | "wide";
  /** What rows are sorted by; a column without it does not sort. */
  sort?: SortKey<Fact>;
}

export interface Detail<Fact> {
  /** What opening the row shows, for the button's name. */
  name: (row: Row<Fact>) => string;
  render: (row: Row<Fact>) => ComponentChildren;
  /** What has become of a row's subject that is no longer there. */
  gone: string;
}

interface DataTableProps<Fact> {
  caption: string;
  columns: readonly Column<Fact>[];
  rows: readonly Row<Fact>[];
  detail?: Detail<Fact>;
  /** The filter in the address that holds the order, where there may be several tables. */
  orderIn?: string;
  /** How many rows there are before somebody asks for more. */
  rowsAtFirst?: number;
  /** Said in place of a table without rows. */
  empty: ComponentChildren;
}

export function DataTable<Fact>({
  caption,
  columns,
  rows,
  detail,
  orderIn = "sort",
  rowsAtFirst = ROWS_AT_FIRST,
  empty,
}: DataTableProps<Fact>) {
  const [filters, change] = useFilters();
  const [opened, setOpened] = useState<Opened<Fact>>(new Map());
  const [limit, setLimit] = useState(rowsAtFirst);
  const order = parseOrder(filters[orderIn]);
  const inOrder = sorted(rows, columns, order);
  const shown = shownRows(inOrder.slice(0, limit), rows, opened);
  if (shown.length === 0) return <div class="empty">{empty}</div>;
  return (
    <div class="table-box">
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {detail === undefined ? null : (
              <th scope="col" class="opener">
                <span class="hidden">Open</span>
              </th>
            )}
            {columns.map((column) => (
              <Head
                key={column.title}
                column={column}
                order={order}
                sortBy={(next) => {
                  change({ [orderIn]: next });
                }}
              />
            ))}
          </tr>
        </thead>
        {shown.map((each) => (
          <RowGroup
            key={each.row.key}
            shown={each}
            columns={columns}
            detail={detail}
            toggle={() => {
              setOpened(toggled(opened, each.row));
            }}
          />
        ))}
      </table>
      {rows.length > limit ? (
        <button
          type="button"
          class="more"
          onClick={() => {
            setLimit(limit + ROWS_MORE);
          }}
        >
          Show {Math.min(limit + ROWS_MORE, rows.length)} of {number(rows.length)}
        </button>
      ) : null}
    </div>
  );
}

interface HeadProps<Fact> {
  column: Column<Fact>;
  order: Order | null;
  sortBy: (order: string) => void;
}

function Head<Fact>({ column: { title, kind, sort }, order, sortBy }: HeadProps<Fact>) {
  if (sort === undefined)
    return (
      <th scope="col" class={kind}>
        {title}
      </th>
    );
  const direction = ariaSort(title, order);
  return (
    <th scope="col" class={`${kind ?? ""} sortable`} aria-sort={direction}>
      <button
        type="button"
        onClick={() => {
          sortBy(nextOrder(title, order));
        }}
      >
        {kind === "number" ? <span class="arrow" aria-hidden="true" /> : null}
        {title}
        {kind === "number" ? null : <span class="arrow" aria-hidden="true" />}
      </button>
    </th>
  );
}

interface RowGroupProps<Fact> {
  shown: Shown<Fact>;
  columns: readonly Column<Fact>[];
  detail: Detail<Fact> | undefined;
  toggle: () => void;
}

function RowGroup<Fact>({ shown: { row, open, gone }, columns, detail, toggle }: RowGroupProps<Fact>) {
  const detailId = useId();
  const rows = (
    <tbody class={gone ? "gone" : undefined}>
      <tr class={open ? "open" : undefined}>
        {detail === undefined ? null : (
          <td class="opener">
            <button
              type="button"
              aria-expanded={open}
              aria-controls={open ? detailId : undefined}
              aria-label={detail.name(row)}
              onClick={toggle}
            >
              <Chevron />
            </button>
          </td>
        )}
        {columns.map((column) => (
          <Cell key={column.title} column={column} row={row} badge={gone ? (detail?.gone ?? null) : null} />
        ))}
      </tr>
      {open && detail !== undefined ? (
        <tr class="detail">
          <td id={detailId} colSpan={columns.length + 1}>
            {detail.render(row)}
          </td>
        </tr>
      ) : null}
    </tbody>
  );
  return gone ? <StoppedClock>{rows}</StoppedClock> : rows;
}

interface CellProps<Fact> {
  column: Column<Fact>;
  row: Row<Fact>;
  /** Stands beside the row's name. */
  badge: string | null;
}

function Cell<Fact>({ column: { title, cell, kind }, row, badge }: CellProps<Fact>) {
  if (kind === "head")
    return (
      <th scope="row" class={kind} data-title={title}>
        {cell(row)} {badge === null ? null : <Badge tone="ok">{badge}</Badge>}
      </th>
    );
  return (
    <td class={kind} data-title={title}>
      {cell(row)}
    </td>
  );
}
