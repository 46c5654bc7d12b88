import type { Received } from "../../api";
import { CopyButton } from "../../components/copy-button";
import { Inline } from "../../components/manual";
import { Panel } from "../../components/panel";
import type { OneFinding } from "../../shapes";
import { explainCommand } from "../../view/findings";
import { issueText } from "../../view/issue";

/** What to do about it, and how to hand it on. */
export function Actions({ finding }: { finding: Received<OneFinding> }) {
  const { hint, fingerprint, ignore } = finding;
  return (
    <Panel title="What to do">
      <p class="hint">
        <Inline text={hint} />
      </p>
      <p class="actions">
        <CopyButton label="Copy as issue" text={() => issueText(finding)} />
        <a class="button" href={`api/v1/findings/${encodeURIComponent(fingerprint)}`}>
          JSON
        </a>
      </p>
      <h3>Explained in the terminal</h3>
      <p>
        <code>{explainCommand(finding)}</code>
      </p>
      <h3>Ignore like this</h3>
      <p class="quiet">Where it is so on purpose, for this line only:</p>
      <pre class="config" tabIndex={0}>
        {ignore}
      </pre>
      <CopyButton label="Copy the setting" text={() => ignore} />
    </Panel>
  );
}
