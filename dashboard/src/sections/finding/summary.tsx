import type { Received } from "../../api";
import { Ago } from "../../components/clock";
import { Badge, LevelBadge, RuleLink, ScopeText, SiteText } from "../../components/labels";
import { Sparkline } from "../../components/sparkline";
import type { OneFinding } from "../../shapes";
import { recentInWords } from "../../view/findings";
import { counted, sinceOf } from "../../view/format";

export function Summary({ finding }: { finding: Received<OneFinding> }) {
  const { level, code, rule, message, site, verb, scope, scope_kind, resolved, known } = finding;
  return (
    <section class={`panel summary ${level}`} aria-label="Summary">
      <p class="summary-head">
        <LevelBadge level={level} /> <RuleLink code={code} rule={rule} />{" "}
        {resolved ? <Badge tone="ok">resolved</Badge> : <Badge tone="plain">open</Badge>}{" "}
        {known ? <Badge tone="plain">in the baseline</Badge> : null}
      </p>
      <h2 class="sentence">{message}</h2>
      <p>
        {site === null ? (
          <span class="quiet">No line of the application is to blame.</span>
        ) : (
          <>
            {verb} at <SiteText site={site} />
          </>
        )}
      </p>
      <p class="quiet">
        in <ScopeText scope={scope} kind={scope_kind} />
      </p>
      <Seen finding={finding} />
    </section>
  );
}

function Seen({ finding }: { finding: Received<OneFinding> }) {
  const { count, first_seen, last_seen, recent, worker_count } = finding;
  return (
    <div class="seen">
      <p>
        Seen {counted(count, "time")} by {counted(worker_count, "worker")}, first{" "}
        <Ago time={first_seen} since={sinceOf(finding, first_seen)} />, last{" "}
        <Ago time={last_seen} since={sinceOf(finding, last_seen)} />
      </p>
      <Sparkline values={recent} description={recentInWords(recent)} />
    </div>
  );
}
