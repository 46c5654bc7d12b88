import { Facts } from "../../components/facts";
import { DetailValue } from "../../components/detail-value";
import { Panel } from "../../components/panel";
import { SourceLines } from "../../components/source";
import { Stack } from "../../components/stack";
import { SiteText } from "../../components/labels";
import type { OneFinding, Source } from "../../shapes";
import { details } from "../../view/details";
import { sourceOf } from "../../view/stack";

export function GuiltyLine({ finding }: { finding: OneFinding }) {
  const source = guiltySource(finding);
  if (source === undefined || finding.site === null) return null;
  return (
    <Panel title="The guilty line">
      <p>
        <SiteText site={finding.site} />
      </p>
      <SourceLines source={source} />
    </Panel>
  );
}

export function Evidence({ finding }: { finding: OneFinding }) {
  const facts = details(finding);
  const shown = guiltySource(finding);
  return (
    <>
      {facts.length === 0 ? null : (
        <Panel title="Facts">
          <Facts facts={facts.map(({ name, value }) => [name, <DetailValue key={name} value={value} />] as const)} />
        </Panel>
      )}
      <Panel title="Stack">
        {/* What is shown already need not be shown twice. */}
        <Stack
          title="Innermost call first"
          frames={finding.stack}
          sources={finding.sources.filter((source) => source !== shown)}
        />
      </Panel>
    </>
  );
}

const guiltySource = ({ site, sources }: OneFinding): Source | undefined =>
  site === null ? undefined : sourceOf(site, sources);
