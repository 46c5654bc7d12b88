import type { Finding } from "../api";
import { Ago } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { Facts } from "../components/facts";
import { Badge, LevelBadge, ScopeText, SiteText } from "../components/labels";
import { Panel } from "../components/panel";
import { Stack } from "../components/stack";
import { type Detail, details } from "../view/details";
import { explainCommand, type FindingRow } from "../view/findings";

const columns: Column<FindingRow>[] = [
  { title: "Level", cell: (row) => <LevelBadge level={row.level} /> },
  { title: "Finding", kind: "head", cell: (row) => <What row={row} /> },
  { title: "Site", cell: (row) => <SiteText site={row.site} /> },
  { title: "Scope", cell: (row) => <ScopeText scoped={row} /> },
  { title: "Count", kind: "number", cell: (row) => row.count },
  { title: "Seen", kind: "number", cell: (row) => <Seen row={row} /> },
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

function Seen({ row }: { row: FindingRow }) {
  const first = <Ago time={row.first_seen} seconds={row.firstSeenSecondsAgo} />;
  if (row.count === 1) return first;
  return (
    <>
      <small>first</small> {first}
      <br />
      <small>last</small> <Ago time={row.last_seen} seconds={row.lastSeenSecondsAgo} />
    </>
  );
}

function Explanation({ row }: { row: Finding }) {
  return (
    <>
      <Facts
        facts={[
          ...(row.hint === null ? [] : [["hint", row.hint] as const]),
          ["explained by", <code key="command">{explainCommand(row)}</code>],
          ...details(row).map(({ name, value }) => [name, <Value key={name} value={value} />] as const),
        ]}
      />
      <Stack title="Stack" frames={row.stack} />
    </>
  );
}

function Value({ value }: Pick<Detail, "value">) {
  if (typeof value === "string") return <>{value}</>;
  if ("site" in value)
    return (
      <>
        {value.what} at <SiteText site={value.site} />
      </>
    );
  return (
    <ul>
      {value.map((each, index) => (
        <li key={index}>{each}</li>
      ))}
    </ul>
  );
}
