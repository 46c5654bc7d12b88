import { useMemo } from "preact/hooks";

import { Distribution, ShareBar } from "../components/bars";
import { type Column, DataTable } from "../components/data-table";
import { Facts } from "../components/facts";
import { SiteText } from "../components/labels";
import { Panel } from "../components/panel";
import { TimeChart } from "../components/time-chart";
import type { HoldingSite, Pool, Series } from "../shapes";
import { type Chart, timesOf, told } from "../view/chart";
import { counted, fullSite } from "../view/format";
import { type Row, useInWords } from "../view/live";
import { number, seconds } from "../view/numbers";
import { quantile } from "../view/histogram";

export function PoolCard({ pool, series }: { pool: Pool; series: Series }) {
  const chart = useMemo(() => chartOf(pool.name, series), [pool.name, series]);
  return (
    <Panel
      title={
        <>
          {pool.name} <small>{[pool.dialect, pool.pool].filter(Boolean).join(", ")}</small>
        </>
      }
    >
      <div class="pool-card">
        <PoolFacts pool={pool} />
        {chart === null ? (
          <p class="empty">No history yet: a point is kept every few seconds.</p>
        ) : (
          <TimeChart chart={chart} description={`${pool.name}: ${useInWords(pool)} in use now.`} />
        )}
      </div>
      <div class="distributions">
        <Distribution title="Held for" histogram={pool.hold} />
        <Distribution title="Waited for" histogram={pool.wait} />
        <Distribution title="Connecting took" histogram={pool.connect} />
      </div>
      <h3>Who eats the pool</h3>
      <Sites sites={pool.sites} name={pool.name} />
    </Panel>
  );
}

function PoolFacts({ pool }: { pool: Pool }) {
  const perCheckout = pool.checkouts === 0 ? null : pool.connects / pool.checkouts;
  return (
    <Facts
      facts={[
        ["in use", `${useInWords(pool)}, at most ${pool.peak} at once in a worker`],
        ["idle", number(pool.idle)],
        ["size", pool.size === null ? "no limit" : `${pool.size} in ${counted(pool.workers, "worker")}`],
        ["overflow", `${pool.overflow} open beyond the size`],
        ["waiting", counted(pool.waiting, "thread")],
        ["timed out", <TimedOut key="timeouts" count={pool.timeouts} />],
        ["check-outs", number(pool.checkouts)],
        ["held for", `95 % at most ${seconds(quantile(pool.hold, 0.95))}`],
        ["connects", `${number(pool.connects)}${perCheckout !== null && perCheckout > 0.5 ? ", nearly one for each check-out" : ""}`],
      ]}
    />
  );
}

function TimedOut({ count }: { count: number }) {
  return count === 0 ? <>never</> : <b class="bad">{counted(count, "check-out")}</b>;
}

function chartOf(name: string, series: Series): Chart | null {
  const engine = series.engines.find((each) => each.name === name);
  if (engine === undefined) return null;
  const times = timesOf(series.start, series.step_seconds, engine.used.length - 1);
  return {
    times,
    end: times.at(-1) ?? 0,
    lines: [
      { name: "in use", values: told(engine.used), style: "steps", colour: 0 },
      { name: "idle", values: told(engine.idle), style: "steps", colour: 2 },
      { name: "waiting", values: told(engine.waiting), style: "steps", colour: 6 },
      { name: "limit", values: told(engine.max), style: "limit", colour: 5 },
    ],
  };
}

type SiteRow = Row<HoldingSite> & { share: number };

const columns: Column<SiteRow>[] = [
  { title: "Site", kind: "head", cell: (row) => <SiteText site={row.site} /> },
  { title: "Share", cell: (row) => <ShareBar share={row.share} /> },
  { title: "Held in all", kind: "number", cell: (row) => seconds(row.hold_seconds) },
  { title: "Check-outs", kind: "number", cell: (row) => number(row.checkouts) },
  { title: "Each", kind: "number", cell: (row) => seconds(row.checkouts === 0 ? null : row.hold_seconds / row.checkouts) },
];

function Sites({ sites, name }: { sites: HoldingSite[]; name: string }) {
  const all = sites.reduce((sum, { hold_seconds }) => sum + hold_seconds, 0);
  const rows = sites.map((site) => ({
    ...site,
    key: fullSite(site.site),
    share: all === 0 ? 0 : site.hold_seconds / all,
  }));
  return (
    <DataTable
      caption={`The lines that held connections of '${name}' for the longest, in connection-seconds.`}
      columns={columns}
      rows={rows}
      rowsAtFirst={8}
      empty="No connection of this engine has been returned yet."
    />
  );
}
