import type { Checkout } from "../api";
import { Age } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { Badge, ScopeText, SiteText, ThreadText, WorkerText } from "../components/labels";
import { Panel } from "../components/panel";
import { Stack } from "../components/stack";
import { duration, shortSite, UNKNOWN } from "../view/format";
import type { Row } from "../view/live";

const columns: Column<Checkout>[] = [
  { title: "Age", kind: "number", cell: (row) => <Age seconds={row.age_seconds} /> },
  { title: "Engine", cell: (row) => row.engine },
  { title: "Scope", kind: "head", cell: (row) => <ScopeCell row={row} /> },
  { title: "Checked out at", kind: "wide", cell: (row) => <SiteText site={row.site} /> },
  { title: "Thread", cell: (row) => <ThreadText thread={row.thread} /> },
  { title: "Worker", cell: (row) => <WorkerText worker={row} /> },
  { title: "Statements", kind: "number", cell: (row) => row.statements ?? UNKNOWN },
  { title: "Idle", kind: "number", cell: (row) => duration(row.idle_seconds) },
];

export function Holders({ rows }: { rows: Row<Checkout>[] }) {
  return (
    <Panel title="Holders" count={rows.length}>
      <DataTable
        caption="Every connection that is checked out now, the oldest first."
        columns={columns}
        rows={rows}
        nameDetail={nameDetail}
        detail={(row) => <Stacks row={row} />}
        gone="returned"
        empty="No connection is checked out."
      />
    </Panel>
  );
}

function ScopeCell({ row }: { row: Checkout }) {
  return (
    <>
      <ScopeText scoped={row} /> {row.leaked ? <Badge tone="error">leaked</Badge> : null}
    </>
  );
}

const nameDetail = (row: Checkout): string =>
  `Stacks of the checkout by ${row.scope ?? "no scope"}${row.site === null ? "" : `, ${shortSite(row.site)}`}`;

function Stacks({ row }: { row: Checkout }) {
  return (
    <>
      <p class="quiet">{row.session ? "Owned by a Session." : "Checked out without a Session."}</p>
      <div class="stacks">
        <Stack title="Checked out at" frames={row.stack} />
        <Stack title={row.doing ? `Now ${row.doing} at` : "Now at"} frames={row.now} />
      </div>
    </>
  );
}
