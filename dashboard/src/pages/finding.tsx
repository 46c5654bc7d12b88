import { fetchFinding, type Received } from "../api";
import { StoreProblem } from "../components/connection";
import { definePage } from "../page";
import type { Route } from "../router";
import { Actions } from "../sections/finding/actions";
import { Evidence, GuiltyLine } from "../sections/finding/evidence";
import { SeenByWorkers } from "../sections/finding/seen-by";
import { Summary } from "../sections/finding/summary";
import { Timeline } from "../sections/finding/timeline";
import { Repair } from "../sections/finding/repair";
import type { OneFinding } from "../shapes";

const fingerprintOf = ({ path }: Route): string => path[1] ?? "";

const query = (route: Route, signal: AbortSignal): Promise<Received<OneFinding>> =>
  fetchFinding(fingerprintOf(route), signal);

function View({ data: finding }: { data: Received<OneFinding> }) {
  return (
    <>
      <StoreProblem problem={finding.store.problem} />
      <Summary finding={finding} />
      <div class="finding-columns">
        <div class="content">
          <GuiltyLine finding={finding} />
          <Timeline events={finding.timeline} />
          <Evidence finding={finding} />
        </div>
        <div class="content">
          <Actions finding={finding} />
          <SeenByWorkers finding={finding} />
        </div>
      </div>
      <Repair finding={finding} />
    </>
  );
}

export const findingPage = definePage({ slug: "finding", title: "Finding", query, asks: fingerprintOf, View });
