import type { Received } from "../api";
import { Age } from "../components/clock";
import { Figure } from "../components/figure";
import { ScopeText } from "../components/labels";
import { addressOf } from "../router";
import type { Findings, Live, Series } from "../shapes";
import { total } from "../view/chart";
import { LEVELS } from "../view/findings";
import { counted, sinceOf } from "../view/format";
import type { EngineUse } from "../view/live";
import { number } from "../view/numbers";
import { leakCounts } from "../view/verdict";

interface HeadlineProps {
  live: Received<Live>;
  uses: readonly EngineUse[];
  counts: Findings["counts"];
  series: Series;
}

export function Headline({ live, uses, counts, series }: HeadlineProps) {
  return (
    <div class="figures six">
      <LeakedFigure live={live} />
      <ConnectionsFigure uses={uses} />
      <SessionsFigure live={live} />
      <OldestFigure live={live} />
      <TransactionsFigure series={series} />
      <FindingsFigure counts={counts} />
    </div>
  );
}

function LeakedFigure({ live }: { live: Live }) {
  const { connections, sessions } = leakCounts(live);
  const all = connections + sessions;
  return (
    <Figure title="Leaked now" value={number(all)} tone={all > 0 ? "error" : "ok"}>
      {all > 0
        ? `${counted(connections, "connection")}, ${counted(sessions, "session")}`
        : "every scope cleaned up"}
    </Figure>
  );
}

function ConnectionsFigure({ uses }: { uses: readonly EngineUse[] }) {
  const sum = (part: (use: EngineUse) => number): number => uses.reduce((all, use) => all + part(use), 0);
  const waiting = sum((use) => use.waiting);
  const limited = uses.length > 0 && uses.every((use) => use.max !== null);
  return (
    <Figure
      title="Connections in use"
      tone={waiting > 0 ? "error" : "plain"}
      value={
        <>
          {number(sum((use) => use.used))}
          {limited ? <small> of {number(sum((use) => use.max ?? 0))}</small> : null}
        </>
      }
    >
      {sum((use) => use.idle)} idle, {counted(waiting, "thread")} waiting
    </Figure>
  );
}

function SessionsFigure({ live: { sessions, omitted } }: { live: Live }) {
  const writing = sessions.filter(({ writes }) => writes > 0).length;
  return (
    <Figure title="Open sessions" value={number(sessions.length + omitted.sessions)}>
      {writing} with uncommitted changes
    </Figure>
  );
}

function OldestFigure({ live }: { live: Received<Live> }) {
  const [oldest] = live.checkouts;
  return (
    <Figure title="Oldest check-out" value={<Age since={oldest === undefined ? null : sinceOf(live, oldest.since)} />}>
      {oldest === undefined ? "nothing is checked out" : <ScopeText scope={oldest.scope} kind={oldest.scope_kind} />}
    </Figure>
  );
}

function TransactionsFigure({ series: { transactions, step_seconds: step } }: { series: Series }) {
  // The last point is in the making.
  const points = Math.max(1, Math.round(60 / step));
  const lately = (column: readonly (number | null)[]): number => total(column.slice(-points - 1, -1)) / ((points * step) / 60);
  const sum = Object.values(transactions).reduce((all, column) => all + lately(column), 0);
  return (
    <Figure
      title="Transactions"
      value={
        <>
          {number(sum)}
          <small> per min</small>
        </>
      }
    >
      {number(lately(transactions.commit))} committed, {number(lately(transactions.error))} failed
    </Figure>
  );
}

function FindingsFigure({ counts: { open, resolved } }: { counts: Findings["counts"] }) {
  const worst = LEVELS.find((level) => open[level] > 0);
  return (
    <Figure
      title="Open findings"
      tone={worst ?? "ok"}
      value={<a href={addressOf(["findings"], { state: "open" })}>{number(open.error + open.warning + open.info)}</a>}
    >
      {counted(open.error, "error")}, {counted(open.warning, "warning")}, {open.info} info
      {resolved > 0 ? `; ${resolved} resolved` : null}
    </Figure>
  );
}
