import { Age, Ago } from "../components/clock";
import { Badge } from "../components/labels";
import { Panel } from "../components/panel";
import { UNKNOWN } from "../view/format";
import type { WorkerRow } from "../view/live";

export function Workers({ rows }: { rows: WorkerRow[] }) {
  return (
    <Panel title="Workers shown" count={rows.length}>
      {rows.length === 0 ? <p class="empty">No worker has reported yet.</p> : <WorkerTable rows={rows} />}
    </Panel>
  );
}

function WorkerTable({ rows }: { rows: WorkerRow[] }) {
  return (
    <div class="table-box">
      <table>
        <caption>All that this page tells comes from these processes.</caption>
        <thead>
          <tr>
            <th scope="col">Host</th>
            <th scope="col" class="number">
              Pid
            </th>
            <th scope="col" class="number">
              Up
            </th>
            <th scope="col">Version</th>
            <th scope="col" class="wide">
              Last heard
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <WorkerLine key={row.key} row={row} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function WorkerLine({ row }: { row: WorkerRow }) {
  return (
    <tr>
      <th scope="row" class="head" data-title="Host">
        {row.host}
      </th>
      <td class="number" data-title="Pid">
        {row.pid}
      </td>
      <td class="number" data-title="Up">
        <Age seconds={row.upSeconds} />
      </td>
      <td data-title="Version">{row.version ?? UNKNOWN}</td>
      <td class="wide" data-title="Last heard">
        <Ago time={row.seen_at} seconds={row.heardSecondsAgo} />{" "}
        {row.silent ? <Badge tone="warning">silent</Badge> : null}
      </td>
    </tr>
  );
}
