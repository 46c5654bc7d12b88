import { Age, Ago } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { Badge } from "../components/labels";
import { Panel } from "../components/panel";
import { addressOf } from "../router";
import type { WorkerRow } from "../view/fleet";
import { number, percent, seconds } from "../view/numbers";
import { counted, UNKNOWN } from "../view/format";

const columns: Column<WorkerRow>[] = [
  { title: "Pid", kind: "head", cell: (row) => <Process row={row} />, sort: (row) => row.pid },
  { title: "Last heard", cell: (row) => <Ago time={row.seen_at} since={row.heard} />, sort: (row) => row.heard },
  { title: "Up", kind: "number", cell: (row) => (row.live ? <Age since={row.started} /> : UNKNOWN), sort: (row) => -row.started },
  { title: "Findings", kind: "number", cell: (row) => <FindingCount row={row} />, sort: (row) => row.findings },
  { title: "Watch, of a core", kind: "number", cell: (row) => <Cost row={row} />, sort: (row) => row.cost.ofCore },
  { title: "Dropped", kind: "number", cell: (row) => number(row.dropped), sort: (row) => row.dropped },
  { title: "Own errors", kind: "number", cell: (row) => number(row.internal_errors), sort: (row) => row.internal_errors },
  { title: "Versions", cell: (row) => <Versions row={row} /> },
];

export function HostPanel({ host, rows }: { host: string; rows: WorkerRow[] }) {
  const live = rows.filter((row) => row.live);
  const gone = rows.filter((row) => !row.live);
  return (
    <Panel title={host} count={live.length}>
      <DataTable
        caption="The processes of this host that are heard."
        columns={columns}
        rows={live}
        empty="No process of this host is heard any more."
      />
      {gone.length === 0 ? null : (
        <details class="gone-workers">
          <summary>{counted(gone.length, "process", "processes")} ended, or not heard any more</summary>
          <DataTable caption="Heard in the last quarter of an hour." columns={columns} rows={gone} empty="" />
        </details>
      )}
    </Panel>
  );
}

function Process({ row }: { row: WorkerRow }) {
  return (
    <>
      {row.pid} {row.watching ? null : <Badge tone="error">stepped aside</Badge>}
    </>
  );
}

function FindingCount({ row }: { row: WorkerRow }) {
  if (row.findings === 0) return <>0</>;
  return <a href={addressOf(["findings"], { worker: `${row.host}:${row.pid}` })}>{number(row.findings)}</a>;
}

function Cost({ row }: { row: WorkerRow }) {
  return (
    <>
      {row.cost.ofCore === null ? UNKNOWN : percent(row.cost.ofCore)} <small>{seconds(row.self_seconds)}</small>
    </>
  );
}

function Versions({ row }: { row: WorkerRow }) {
  return (
    <small>
      {row.version} on Python {row.python}, SQLAlchemy {row.sqlalchemy}, Flask {row.flask}
    </small>
  );
}
