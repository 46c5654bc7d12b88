import { fetchCheckout } from "../api";
import { Age } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { Facts } from "../components/facts";
import { HeldDetail } from "../components/held-detail";
import { Badge, ScopeText, SiteText, ThreadText, WorkerText } from "../components/labels";
import { Panel } from "../components/panel";
import type { Checkout } from "../shapes";
import { duration, shortSite, UNKNOWN } from "../view/format";
import type { HeldRow } from "../view/live";

type HolderRow = HeldRow<Checkout>;

const columns: Column<HolderRow>[] = [
  { title: "Age", kind: "number", cell: (row) => <Age since={row.began} />, sort: (row) => row.age_seconds },
  { title: "Engine", cell: (row) => row.engine, sort: (row) => row.engine },
  { title: "Scope", kind: "head", cell: (row) => <ScopeCell row={row} />, sort: (row) => row.scope },
  { title: "Checked out at", kind: "wide", cell: (row) => <SiteText site={row.site} />, sort: siteKey },
  { title: "Doing now", cell: (row) => <Doing row={row} />, sort: (row) => row.doing },
  { title: "Thread", cell: (row) => <ThreadText thread={row.thread} />, sort: (row) => row.thread },
  { title: "Worker", cell: (row) => <WorkerText worker={row} />, sort: (row) => `${row.host} ${row.pid}` },
  { title: "Server pid", kind: "number", cell: (row) => row.server_id ?? UNKNOWN, sort: (row) => row.server_id },
];

function siteKey({ site }: Checkout): string | null {
  return site === null ? null : `${site.filename}:${String(site.lineno).padStart(6, "0")}`;
}

export function Holders({ rows, omitted }: { rows: HolderRow[]; omitted: number }) {
  return (
    <Panel title="Holders" count={rows.length + omitted}>
      <DataTable
        caption="Every connection that is checked out now, the oldest first."
        columns={columns}
        rows={rows}
        rowsAtFirst={10}
        detail={{ name: nameDetail, render: (row) => <Detail row={row} />, gone: "returned" }}
        empty="No connection is checked out."
      />
    </Panel>
  );
}

function ScopeCell({ row }: { row: Checkout }) {
  return (
    <>
      <ScopeText scope={row.scope} kind={row.scope_kind} /> {row.leaked ? <Badge tone="error">leaked</Badge> : null}
    </>
  );
}

function Doing({ row }: { row: Checkout }) {
  return <span class="doing">{row.doing ?? <span class="quiet">{UNKNOWN}</span>}</span>;
}

const nameDetail = (row: Checkout): string =>
  `Stacks of the checkout by ${row.scope ?? "no scope"}${row.site === null ? "" : `, ${shortSite(row.site)}`}`;

function Detail({ row }: { row: Checkout }) {
  return (
    <>
      <Facts
        facts={[
          ["owned by", row.session ? "a Session" : "nobody: it was checked out without a Session"],
          ["statements", row.statements],
          ["idle", duration(row.idle_seconds)],
        ]}
      />
      <HeldDetail id={row.id} fetchOne={fetchCheckout} title="Checked out at" />
    </>
  );
}
