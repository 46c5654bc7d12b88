import type { Received } from "../../api";
import { Ago } from "../../components/clock";
import { type Column, DataTable } from "../../components/data-table";
import { Badge, WorkerText } from "../../components/labels";
import { Panel } from "../../components/panel";
import type { OneFinding, SeenBy } from "../../shapes";
import { sinceOf } from "../../view/format";
import type { Row } from "../../view/live";
import { number } from "../../view/numbers";

type SeenRow = Row<SeenBy> & { lastSeen: number };

const columns: Column<SeenRow>[] = [
  { title: "Worker", kind: "head", cell: (row) => <Seer row={row} /> },
  { title: "Count", kind: "number", cell: (row) => number(row.count) },
  { title: "Last seen", kind: "number", cell: (row) => <Ago time={row.last_seen} since={row.lastSeen} /> },
];

export function SeenByWorkers({ finding }: { finding: Received<OneFinding> }) {
  const rows = finding.workers.map((worker) => ({
    ...worker,
    key: `${worker.host} ${worker.pid}`,
    lastSeen: sinceOf(finding, worker.last_seen),
  }));
  return (
    <Panel title="Workers" count={finding.worker_count}>
      <DataTable caption="Who saw it." columns={columns} rows={rows} empty="Its workers are no longer known." />
    </Panel>
  );
}

function Seer({ row }: { row: SeenBy }) {
  return (
    <>
      <WorkerText worker={row} /> {row.gone ? <Badge tone="plain">gone</Badge> : null}
    </>
  );
}
