import { Bar, ShareBar } from "../components/bars";
import { Ago } from "../components/clock";
import { type Column, DataTable } from "../components/data-table";
import { LevelBadge, Name, WorkerText } from "../components/labels";
import { addressOf } from "../router";
import type { BadScope } from "../shapes";
import { scopeKind } from "../view/live";
import { number, percent, seconds } from "../view/numbers";
import { badCount, type ScopeRow, verdictParts, verdictsInWords } from "../view/scopes";

const perScope = (total: number, count: number): number => (count === 0 ? 0 : total / count);

const columns: Column<ScopeRow>[] = [
  { title: "Scope", kind: "head", cell: (row) => <ScopeName row={row} />, sort: (row) => row.scope },
  { title: "Count", kind: "number", cell: (row) => number(row.count), sort: (row) => row.count },
  { title: "Verdicts", cell: (row) => <Verdicts row={row} />, sort: badCount },
  { title: "Pool time", cell: (row) => <ShareBar share={row.hold_share} />, sort: (row) => row.hold_share },
  {
    title: "Hold",
    kind: "number",
    cell: (row) => seconds(perScope(row.hold_seconds, row.count)),
    sort: (row) => perScope(row.hold_seconds, row.count),
  },
  {
    title: "Wait",
    kind: "number",
    cell: (row) => seconds(perScope(row.wait_seconds, row.count)),
    sort: (row) => perScope(row.wait_seconds, row.count),
  },
  {
    title: "Commits",
    kind: "number",
    cell: ({ commits: { p50, p95, max } }) => (p50 === max ? max : `${p50} · ${p95} · ${max}`),
    sort: (row) => row.commits.p95,
  },
  {
    title: "Sessions",
    kind: "number",
    cell: (row) => number(perScope(row.sessions, row.count)),
    sort: (row) => perScope(row.sessions, row.count),
  },
  { title: "Held at once", kind: "number", cell: (row) => row.connections_peak, sort: (row) => row.connections_peak },
  {
    title: "Lost writes",
    kind: "number",
    cell: (row) => (row.lost_writes === 0 ? "0" : <b class="bad">{percent(row.lost_writes_share)}</b>),
    sort: (row) => row.lost_writes_share,
  },
];

export function ScopeTable({ rows, empty }: { rows: ScopeRow[]; empty: string }) {
  return (
    <DataTable
      caption="What each request, command or task has used since the workers began; hold, wait and sessions are means; commits are the median, the 95th percentile and the most."
      columns={columns}
      rows={rows}
      detail={{
        name: (row) => `Latest scopes with findings of ${row.scope}`,
        render: (row) => <BadScopes row={row} />,
        gone: "no longer kept",
      }}
      empty={empty}
    />
  );
}

function ScopeName({ row }: { row: ScopeRow }) {
  return (
    <span class="scope">
      <Name text={row.scope} /> {row.kind === "request" ? null : <small>{scopeKind(row.kind)}</small>}
    </span>
  );
}

function Verdicts({ row }: { row: ScopeRow }) {
  if (row.count === 0) return <span class="quiet">none ended</span>;
  if (badCount(row) === 0) return <span class="quiet">all clean</span>;
  return (
    <span class="share" title={verdictsInWords(row.verdicts)}>
      <span>{number(badCount(row))} bad</span>
      <Bar parts={verdictParts(row)} />
    </span>
  );
}

function BadScopes({ row }: { row: ScopeRow }) {
  return (
    <>
      <p>
        {verdictsInWords(row.verdicts)}. <a href={addressOf(["findings"], { scope: row.scope })}>Its findings</a>
      </p>
      {row.bad.length === 0 ? (
        <p class="quiet">None of its scopes with findings is remembered.</p>
      ) : (
        <ul class="bad-scopes">
          {row.bad.map((bad, index) => (
            <BadOne key={index} bad={bad} since={row.badSince[index] ?? null} />
          ))}
        </ul>
      )}
    </>
  );
}

function BadOne({ bad, since }: { bad: BadScope; since: number | null }) {
  return (
    <li>
      <LevelBadge level={bad.verdict} /> <Ago time={bad.at} since={since} />
      {bad.status === null ? null : <>, answered {bad.status}</>}
      {bad.error === null ? null : <>, {bad.error}</>}, {number(bad.commits)} commits, {bad.connections_peak} held at
      once <WorkerText worker={bad} />{" "}
      {bad.findings.map((fingerprint, index) => (
        <a key={fingerprint} href={addressOf(["findings", fingerprint])}>
          finding{bad.findings.length > 1 ? ` ${index + 1}` : ""}
        </a>
      ))}
    </li>
  );
}
