import type { Received } from "../api";
import { FindingTable } from "../components/finding-table";
import { Panel } from "../components/panel";
import type { Findings } from "../shapes";
import { findingRows } from "../view/findings";

const SHOWN = 8;

export function LatestFindings({ findings }: { findings: Received<Findings> }) {
  return (
    <Panel title="Latest open findings" href="#findings" count={findings.total}>
      <FindingTable
        caption="Those that were seen last. The page of all findings has filters."
        rows={findingRows(findings).slice(0, SHOWN)}
        empty="Nothing open has been found. Healthy code stays silent."
      />
    </Panel>
  );
}
