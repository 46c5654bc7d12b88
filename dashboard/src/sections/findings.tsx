import type { Finding } from "../api";
import { Ago } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { Facts } from "../components/facts";
import { Badge, LevelBadge, ScopeText, SiteText } from "../components/labels";
import { Panel } from "../components/panel";
import { Stack } from "../components/stack";
import { explainCommand, type FindingRow } from "../view/findings";
import { plain } from "../view/format";

const columns: Column<FindingRow>[] = [
  { title: "Level", cell: (row) => <LevelBadge level={row.level} /> },
  { title: "Finding", kind: "head", cell: (row) => <What row={row} /> },
  { title: "Site", kind: "wide", cell: (row) => <SiteText site={row.site} /> },
  { title: "Scope", cell: (row) => <ScopeText scoped={row} /> },
  { title: "Count", kind: "number", cell: (row) => row.count },
  {
    title: "First seen",
    kind: "number",
    cell: (row) => <Ago time={row.first_seen} seconds={row.firstSeenSecondsAgo} />,
  },
  { title: "Last seen", kind: "number", cell: (row) => <Ago time={row.last_seen} seconds={row.lastSeenSecondsAgo} /> },
];

export function Findings({ rows }: { rows: FindingRow[] }) {
  return (
    <Panel title="Findings" count={rows.length}>
      <DataTable
        caption="One row per bug, the newest first."
        columns={columns}
        rows={rows}
        nameDetail={(row) => `Hint and stack of ${row.code} ${row.rule}`}
        detail={(row) => <Explanation row={row} />}
        gone="no longer kept"
        empty="Nothing has been found. Healthy code stays silent."
      />
    </Panel>
  );
}

function What({ row }: { row: Finding }) {
  return (
    <>
      <b>{row.code}</b> {row.rule} {row.resolved ? <Badge tone="ok">resolved</Badge> : null}
      <span class="message">{row.message}</span>
    </>
  );
}

function Explanation({ row }: { row: Finding }) {
  const details = Object.entries(row.details).map(([name, value]) => [name, plain(value)] as const);
  return (
    <>
      {row.hint === null ? null : <p class="hint">{row.hint}</p>}
      <p>
        More: <code>{explainCommand(row)}</code>
      </p>
      {details.length > 0 ? <Facts facts={details} /> : null}
      <Stack title="Stack" frames={row.stack} />
    </>
  );
}
