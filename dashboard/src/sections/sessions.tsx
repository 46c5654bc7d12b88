import { fetchSession } from "../api";
import { Age } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { HeldDetail } from "../components/held-detail";
import { Badge, ScopeText, SiteText, ThreadText, WorkerText } from "../components/labels";
import { Panel } from "../components/panel";
import type { Session } from "../shapes";
import { shortSite } from "../view/format";
import { type HeldRow, sessionState } from "../view/live";

type SessionRow = HeldRow<Session>;

const columns: Column<SessionRow>[] = [
  { title: "Age", kind: "number", cell: (row) => <Age since={row.began} />, sort: (row) => row.age_seconds },
  {
    title: "Scope",
    kind: "head",
    cell: (row) => <ScopeText scope={row.scope} kind={row.scope_kind} />,
    sort: (row) => row.scope,
  },
  { title: "Begun at", kind: "wide", cell: (row) => <SiteText site={row.site} /> },
  { title: "Thread", cell: (row) => <ThreadText thread={row.thread} />, sort: (row) => row.thread },
  { title: "Worker", cell: (row) => <WorkerText worker={row} />, sort: (row) => `${row.host} ${row.pid}` },
  { title: "Connections", kind: "number", cell: (row) => row.checkouts, sort: (row) => row.checkouts },
  { title: "Writes", kind: "number", cell: (row) => row.writes, sort: (row) => row.writes },
  { title: "State", cell: (row) => (row.leaked ? <Badge tone="error">leaked</Badge> : sessionState(row)) },
];

export function Sessions({ rows }: { rows: SessionRow[] }) {
  return (
    <Panel title="Sessions" count={rows.length}>
      <DataTable
        caption="Open sessions that leaked or own no connection, the oldest first. All others are told by the connection they hold."
        columns={columns}
        rows={rows}
        rowsAtFirst={10}
        orderIn="sessions"
        detail={{
          name: nameDetail,
          render: (row) => <HeldDetail id={row.id} fetchOne={fetchSession} title="Begun at" />,
          gone: "closed",
        }}
        empty="No open session leaked or is without a connection."
      />
    </Panel>
  );
}

const nameDetail = (row: Session): string =>
  `Stack of the session of ${row.scope ?? "no scope"}${row.site === null ? "" : `, ${shortSite(row.site)}`}`;
