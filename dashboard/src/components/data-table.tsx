/** A table whose rows open; below a certain width each row becomes a card (tables.css). */

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";

import type { Row } from "../view/live";
import { type Opened, type Shown, shownRows, toggled } from "../view/opened";
import { StoppedClock } from "./clock";
import { Badge } from "./labels";

/** More rows at once are read by nobody, and slow every refresh. */
const ROWS_AT_FIRST = 50;

export interface Column<Fact> {
  title: string;
  cell: (row: Row<Fact>) => ComponentChildren;
  /** "head" names the row; "number" is aligned on its digits; "wide" may take what room is left. */
  kind?: "head" | "number" | "wide";
}

interface DataTableProps<Fact> {
  caption: string;
  columns: readonly Column<Fact>[];
  rows: readonly Row<Fact>[];
  /** What opening the row shows, for the button's name. */
  nameDetail: (row: Row<Fact>) => string;
  detail: (row: Row<Fact>) => ComponentChildren;
  /** What has become of a row's subject that is no longer there. */
  gone: string;
  /** Said in place of a table without rows. */
  empty: string;
}

export function DataTable<Fact>({ caption, columns, rows, nameDetail, detail, gone, empty }: DataTableProps<Fact>) {
  const [opened, setOpened] = useState<Opened<Fact>>(new Map());
  const [all, setAll] = useState(false);
  const shown = shownRows(all ? rows : rows.slice(0, ROWS_AT_FIRST), opened);
  if (shown.length === 0) return <p class="empty">{empty}</p>;
  return (
    <div class="table-box">
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            <th scope="col">
              <span class="hidden">Open</span>
            </th>
            {columns.map(({ title, kind }) => (
              <th key={title} scope="col" class={kind}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        {shown.map((each) => (
          <RowGroup
            key={each.row.key}
            shown={each}
            columns={columns}
            name={nameDetail(each.row)}
            detail={detail}
            gone={gone}
            toggle={() => {
              setOpened(toggled(opened, each.row));
            }}
          />
        ))}
      </table>
      {!all && rows.length > ROWS_AT_FIRST ? (
        <button
          type="button"
          class="more"
          onClick={() => {
            setAll(true);
          }}
        >
          Show all {rows.length}
        </button>
      ) : null}
    </div>
  );
}

interface RowGroupProps<Fact> {
  shown: Shown<Fact>;
  columns: readonly Column<Fact>[];
  name: string;
  detail: (row: Row<Fact>) => ComponentChildren;
  gone: string;
  toggle: () => void;
}

function RowGroup<Fact>({
  shown: { row, open, gone: isGone },
  columns,
  name,
  detail,
  gone,
  toggle,
}: RowGroupProps<Fact>) {
  const detailId = useId();
  const rows = (
    <tbody class={isGone ? "gone" : undefined}>
      <tr class={open ? "open" : undefined}>
        <td class="opener">
          <button
            type="button"
            aria-expanded={open}
            aria-controls={open ? detailId : undefined}
            aria-label={name}
            onClick={toggle}
          >
            <Chevron />
          </button>
        </td>
        {columns.map((column) => (
          <Cell key={column.title} column={column} row={row} badge={isGone ? gone : null} />
        ))}
      </tr>
      {open ? (
        <tr class="detail">
          <td id={detailId} colSpan={columns.length + 1}>
            {detail(row)}
          </td>
        </tr>
      ) : null}
    </tbody>
  );
  return isGone ? <StoppedClock>{rows}</StoppedClock> : rows;
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

function Chevron() {
  return (
    <svg class="chevron" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path
        d="M6 3.5 10.5 8 6 12.5"
        fill="none"
        stroke="currentColor"
        stroke-width="1.75"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}
