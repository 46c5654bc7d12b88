import { fetchFindings, fetchLive, type Finding, type Live } from "../api";
import { definePage } from "../page";
import { Findings } from "../sections/findings";
import { Headline } from "../sections/headline";
import { Holders } from "../sections/holders";
import { Pools } from "../sections/pools";
import { Sessions } from "../sections/sessions";
import { Workers } from "../sections/workers";
import { findingRows } from "../view/findings";
import { holders, sessionsToTell, workers } from "../view/live";
import { addSample, type Sample } from "../view/samples";

interface Now {
  live: Live;
  findings: Finding[];
  samples: readonly Sample[];
}

async function queryNow(signal: AbortSignal, before: Now | null): Promise<Now> {
  const [live, findings] = await Promise.all([fetchLive(signal), fetchFindings(signal)]);
  return { live, findings, samples: addSample(before?.samples ?? [], live) };
}

function NowView({ data: { live, findings, samples } }: { data: Now }) {
  return (
    <>
      <Headline live={live} findings={findings} />
      <Pools engines={live.engines} samples={samples} />
      <Holders rows={holders(live)} />
      <Findings rows={findingRows(findings, live.now)} />
      <Sessions rows={sessionsToTell(live)} />
      <Workers rows={workers(live)} />
    </>
  );
}

export const nowPage = definePage({ slug: "now", title: "Now", query: queryNow, View: NowView });
