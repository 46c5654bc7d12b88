import type { Finding, Live } from "../api";
import { Age } from "../components/clock";
import { Figure } from "../components/figure";
import { ScopeText } from "../components/labels";
import { findingCounts, LEVELS } from "../view/findings";
import { counted } from "../view/format";
import { headline } from "../view/live";

export function Headline({ live, findings }: { live: Live; findings: Finding[] }) {
  const { sessions, sessionsWithoutConnection, oldest, leakedCheckouts, leakedSessions } = headline(live);
  const leaked = leakedCheckouts + leakedSessions;
  return (
    <div class="figures">
      <Figure title="Leaked now" value={leaked} tone={leaked > 0 ? "error" : "ok"}>
        {leaked > 0
          ? `${counted(leakedCheckouts, "connection")}, ${counted(leakedSessions, "session")}`
          : "every scope cleaned up"}
      </Figure>
      <Figure title="Open sessions" value={sessions}>
        {sessionsWithoutConnection} without a connection
      </Figure>
      <Figure title="Oldest checkout" value={<Age seconds={oldest?.age_seconds ?? null} />}>
        {oldest === null ? "nothing is checked out" : <ScopeText scoped={oldest} />}
      </Figure>
      <FindingsFigure findings={findings} />
    </div>
  );
}

function FindingsFigure({ findings }: { findings: Finding[] }) {
  const { byLevel, open, resolved } = findingCounts(findings);
  const worst = LEVELS.find((level) => byLevel[level] > 0);
  return (
    <Figure title="Findings" value={open} tone={worst ?? "ok"}>
      {counted(byLevel.error, "error")}, {counted(byLevel.warning, "warning")}, {byLevel.info} info
      {resolved > 0 ? `; ${resolved} resolved` : null}
    </Figure>
  );
}
