import type { Finding } from "../shapes";
import { addressOf } from "../router";
import type { FindingRow } from "../view/findings";
import { LEVELS, recentInWords } from "../view/findings";
import { number } from "../view/numbers";
import { Ago } from "./clock";
import { type Column, DataTable } from "./data-table";
import { Badge, LevelBadge, ScopeText, SiteText } from "./labels";
import { Sparkline } from "./sparkline";

const columns: Column<FindingRow>[] = [
  { title: "Level", cell: (row) => <LevelBadge level={row.level} />, sort: (row) => LEVELS.length - LEVELS.indexOf(row.level) },
  { title: "Finding", kind: "head", cell: (row) => <What row={row} />, sort: (row) => row.code },
  { title: "Site", kind: "wide", cell: (row) => <SiteText site={row.site} /> },
  { title: "Scope", cell: (row) => <ScopeText scope={row.scope} kind={row.scope_kind} />, sort: (row) => row.scope },
  { title: "Last hour", cell: (row) => <Sparkline values={row.recent} description={recentInWords(row.recent)} /> },
  { title: "Count", kind: "number", cell: (row) => number(row.count), sort: (row) => row.count },
  { title: "Last seen", kind: "number", cell: (row) => <Seen row={row} />, sort: (row) => row.lastSeen },
];

interface FindingTableProps {
  caption: string;
  rows: FindingRow[];
  empty: string;
}

export function FindingTable({ caption, rows, empty }: FindingTableProps) {
  return <DataTable caption={caption} columns={columns} rows={rows} orderIn="sort" empty={empty} />;
}

function Seen({ row }: { row: FindingRow }) {
  return (
    <>
      <Ago time={row.last_seen} since={row.lastSeen} />
      {row.count === 1 ? null : (
        <small class="first-seen">
          first <Ago time={row.first_seen} since={row.firstSeen} />
        </small>
      )}
    </>
  );
}

function What({ row }: { row: Finding }) {
  return (
    <>
      <a class="row-link" href={addressOf(["findings", row.fingerprint])}>
        <b>{row.code}</b> {row.rule}
      </a>{" "}
      {row.resolved ? <Badge tone="ok">resolved</Badge> : null}
      {row.known ? <Badge tone="plain">in the baseline</Badge> : null}
      <span class="message">{row.message}</span>
    </>
  );
}
