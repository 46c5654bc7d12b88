import { Manual } from "../../components/manual";
import { Panel } from "../../components/panel";
import type { OneFinding } from "../../shapes";

/** The rule's manual page: the mistake and its repair. */
export function Repair({ finding: { code, rule, page } }: { finding: OneFinding }) {
  if (page === null) return null;
  return (
    <Panel title={`The manual on ${code} ${rule}`}>
      <Manual page={page} />
    </Panel>
  );
}
