import { fetchPools, fetchSeries, type Received } from "../api";
import { StoreProblem } from "../components/connection";
import { Segments } from "../components/filter-bar";
import { definePage } from "../page";
import type { Route } from "../router";
import { PoolCard } from "../sections/pool-card";
import type { Pools, Series } from "../shapes";
import { SPANS, spanOf } from "../view/span";

interface Data {
  pools: Received<Pools>;
  series: Received<Series>;
}

const SLOW = 5_000;

async function query(route: Route, signal: AbortSignal): Promise<Data> {
  const [pools, series] = await Promise.all([fetchPools(signal), fetchSeries(spanOf(route.filters), signal)]);
  return { pools, series };
}

const asks = ({ filters }: Route): string => spanOf(filters);

function View({ data: { pools, series } }: { data: Data }) {
  return (
    <>
      <StoreProblem problem={pools.store.problem} />
      {pools.engines.length === 0 ? (
        <section class="notice">
          <h2>No pool yet</h2>
          <p>An engine's pool appears with its first connection.</p>
        </section>
      ) : (
        <>
          <div class="section-head">
            <p class="quiet">Sums over all workers, since these began. A bar is how often, not how long.</p>
            <Segments label="How far back the charts reach" name="span" options={SPANS} standard="15m" />
          </div>
          {pools.engines.map((pool) => (
            <PoolCard key={pool.name} pool={pool} series={series} />
          ))}
        </>
      )}
    </>
  );
}

export const poolsPage = definePage({ slug: "pools", title: "Pools", query, asks, interval: SLOW, View });
