import type { Session } from "../api";
import { Age } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { Badge, ScopeText, SiteText, ThreadText, WorkerText } from "../components/labels";
import { Panel } from "../components/panel";
import { Stack } from "../components/stack";
import { shortSite, UNKNOWN } from "../view/format";
import { type Row, sessionState } from "../view/live";

const columns: Column<Session>[] = [
  { title: "Age", kind: "number", cell: (row) => <Age seconds={row.age_seconds} /> },
  { title: "Scope", kind: "head", cell: (row) => <ScopeText scoped={row} /> },
  { title: "Begun at", kind: "wide", cell: (row) => <SiteText site={row.site} /> },
  { title: "Thread", cell: (row) => <ThreadText thread={row.thread} /> },
  { title: "Worker", cell: (row) => <WorkerText worker={row} /> },
  { title: "Connections", kind: "number", cell: (row) => row.checkouts },
  { title: "Writes", kind: "number", cell: (row) => row.writes ?? UNKNOWN },
  { title: "State", cell: (row) => (row.leaked ? <Badge tone="error">leaked</Badge> : sessionState(row)) },
];

export function Sessions({ rows }: { rows: Row<Session>[] }) {
  return (
    <Panel title="Sessions" count={rows.length}>
      <DataTable
        caption="Open sessions that leaked or own no connection, the oldest first. All others are told by the connection they hold."
        columns={columns}
        rows={rows}
        nameDetail={nameDetail}
        detail={(row) => <Stack title="Begun at" frames={row.stack} />}
        gone="closed"
        empty="No open session leaked or is without a connection."
      />
    </Panel>
  );
}

const nameDetail = (row: Session): string =>
  `Stack of the session of ${row.scope ?? "no scope"}${row.site === null ? "" : `, ${shortSite(row.site)}`}`;
