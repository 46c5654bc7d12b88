import { fetchFindings, fetchLive, fetchRules, fetchSeries, type Received } from "../api";
import { Segments } from "../components/filter-bar";
import { StoreProblem } from "../components/connection";
import { Verdict } from "../components/verdict";
import { definePage } from "../page";
import type { Route } from "../router";
import { Charts } from "../sections/charts";
import { Headline } from "../sections/headline";
import { Holders } from "../sections/holders";
import { LatestFindings } from "../sections/latest-findings";
import { Pools } from "../sections/pools";
import { Sessions } from "../sections/sessions";
import { Coverage } from "../sections/coverage";
import type { Findings, Live, Series } from "../shapes";
import { engineUses, holders, sessionsToTell } from "../view/live";
import { SPANS, spanOf } from "../view/span";
import { verdict } from "../view/verdict";

interface Now {
  live: Received<Live>;
  findings: Received<Findings>;
  series: Received<Series>;
  /** What to do, by the code of the rule. */
  hints: ReadonlyMap<string, string>;
}

const LATEST_OPEN = new URLSearchParams({ resolved: "false", known: "false", sort: "-last_seen", limit: "30" });

async function query(route: Route, signal: AbortSignal, before: Now | null): Promise<Now> {
  const [live, findings, series, hints] = await Promise.all([
    fetchLive(signal),
    fetchFindings(LATEST_OPEN, signal),
    fetchSeries(spanOf(route.filters), signal),
    before?.hints ?? fetchHints(signal),
  ]);
  return { live, findings, series, hints };
}

async function fetchHints(signal: AbortSignal): Promise<Now["hints"]> {
  return new Map((await fetchRules(signal)).rules.map(({ code, hint }) => [code, hint]));
}

function View({ data: { live, findings, series, hints } }: { data: Now }) {
  const judged = verdict(live, findings.findings);
  const uses = engineUses(live);
  return (
    <>
      <StoreProblem problem={live.store.problem} />
      <Verdict
        verdict={judged}
        hint={hints.get(judged.guilty?.finding?.code ?? "") ?? null}
        latest={findings.findings[0] ?? null}
      />
      <Headline live={live} uses={uses} counts={findings.counts} series={series} />
      <Pools uses={uses} />
      <Holders rows={holders(live)} omitted={live.omitted.checkouts} />
      <Sessions rows={sessionsToTell(live)} />
      <div class="section-head">
        <h2>History</h2>
        <Segments label="How far back" name="span" options={SPANS} standard="15m" />
      </div>
      <Charts series={series} uses={uses} />
      <LatestFindings findings={findings} />
      <Coverage live={live} />
    </>
  );
}

export const nowPage = definePage({ slug: "now", title: "Now", query, asks: ({ filters }) => spanOf(filters), View });
