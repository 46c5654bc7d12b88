import type { Finding } from "../shapes";
import { addressOf } from "../router";
import { counted } from "../view/format";
import type { Guilty, Verdict as Judged } from "../view/verdict";
import { LevelIcon } from "./icons";
import { ScopeText, SiteText } from "./labels";
import { Inline } from "./manual";

interface VerdictProps {
  verdict: Judged;
  /** What is to be done about the finding at the guilty line. */
  hint: string | null;
  latest: Finding | null;
}

/** The first thing that is read: the fact, the line, the repair. */
export function Verdict({ verdict: { tone, fact, guilty }, hint, latest }: VerdictProps) {
  return (
    <section class={`verdict ${tone}`} aria-label="At a glance">
      <LevelIcon tone={tone} />
      <div class="verdict-text">
        <p class="fact">{fact}</p>
        {guilty === null ? <Latest finding={latest} /> : <GuiltyLine guilty={guilty} hint={hint} />}
      </div>
    </section>
  );
}

function GuiltyLine({ guilty: { site, scope, held, of, oldest, finding }, hint }: { guilty: Guilty; hint: string | null }) {
  return (
    <dl>
      <dt>Guilty line</dt>
      <dd>
        <SiteText site={site} />{" "}
        <span class="quiet">{of === 1 ? "holds it" : `holds ${held} of these ${of}`}</span>
      </dd>
      <dt>In</dt>
      <dd>
        <ScopeText scope={scope} kind={oldest.scope_kind} />
      </dd>
      {hint === null ? null : (
        <>
          <dt>What to do</dt>
          <dd>
            <Inline text={hint} />
          </dd>
        </>
      )}
      {finding === null ? null : (
        <>
          <dt>Evidence</dt>
          <dd>
            <FindingLink finding={finding} />
          </dd>
        </>
      )}
    </dl>
  );
}

function Latest({ finding }: { finding: Finding | null }) {
  if (finding === null) return <p class="quiet">No finding is open.</p>;
  return (
    <p class="quiet">
      Latest finding: <FindingLink finding={finding} />, {counted(finding.count, "time")}.
    </p>
  );
}

export function FindingLink({ finding: { fingerprint, code, rule } }: { finding: Finding }) {
  return (
    <a href={addressOf(["findings", fingerprint])}>
      {code} {rule}
    </a>
  );
}
