import { fetchFleet, type Received } from "../api";
import { StoreProblem } from "../components/connection";
import { Figure } from "../components/figure";
import { definePage } from "../page";
import type { Route } from "../router";
import { HostPanel } from "../sections/host-panel";
import type { Fleet } from "../shapes";
import { counted } from "../view/format";
import { fleetTotals, hosts } from "../view/fleet";
import { number, percent, seconds } from "../view/numbers";

const SLOW = 5_000;

const query = (_route: Route, signal: AbortSignal): Promise<Received<Fleet>> => fetchFleet(signal);

function View({ data }: { data: Received<Fleet> }) {
  const totals = fleetTotals(data.workers);
  return (
    <>
      <StoreProblem problem={data.store.problem} />
      <div class="figures">
        <Figure title="Workers heard" value={number(totals.live)}>
          on {counted(totals.hosts, "host")}; {number(totals.silent)} more in the last quarter of an hour
        </Figure>
        <Figure title="Cost of the watch" value={totals.cost.ofCore === null ? "–" : percent(totals.cost.ofCore)}>
          of a core for each worker, {seconds(totals.cost.seconds)} in all
          {totals.cost.ofWork === null ? null : `; ${percent(totals.cost.ofWork)} of what they compute`}
        </Figure>
        <Figure title="Dropped" value={number(totals.dropped)} tone={totals.dropped > 0 ? "warning" : "ok"}>
          findings there was no room for
        </Figure>
        <Figure title="Own errors" value={number(totals.errors)} tone={totals.errors > 0 ? "error" : "ok"}>
          {totals.aside === 0 ? "the watch is on everywhere" : `${counted(totals.aside, "worker")} without a watch`}
        </Figure>
      </div>
      {data.workers.length === 0 ? (
        <section class="notice">
          <h2>No worker yet</h2>
          <p>A worker appears when it has begun its first request, or its first other scope.</p>
        </section>
      ) : (
        hosts(data).map(({ host, rows }) => <HostPanel key={host} host={host} rows={rows} />)
      )}
    </>
  );
}

export const fleetPage = definePage({ slug: "fleet", title: "Fleet", query, interval: SLOW, View });
