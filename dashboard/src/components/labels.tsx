/** The small pieces that every table and figure is made of. */

import type { ComponentChildren } from "preact";

import type { Level, ScopeName, Site, WorkerName } from "../api";
import { fullSite, shortPath, UNKNOWN } from "../view/format";
import { scopeKind } from "../view/live";

export type Tone = "error" | "warning" | "info" | "ok" | "plain";

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function LevelBadge({ level }: { level: Level }) {
  return <Badge tone={level}>{level}</Badge>;
}

export function SiteText({ site }: { site: Site | null }) {
  if (site === null) return <span class="quiet">unknown</span>;
  return (
    <span class="site" title={fullSite(site)}>
      <span class="site-line">
        {shortPath(site.filename)}
        <span class="lineno">:{site.lineno}</span>
      </span>{" "}
      in {site.function}
    </span>
  );
}

export function ScopeText({ scoped }: { scoped: ScopeName }) {
  const kind = scopeKind(scoped);
  return (
    <span class="scope">
      {scoped.scope ?? <span class="quiet">no scope</span>}
      {kind === null ? null : <small> {kind}</small>}
    </span>
  );
}

export function WorkerText({ worker }: { worker: WorkerName }) {
  return (
    <>
      {worker.pid} <small class="host">on {worker.host}</small>
    </>
  );
}

export function ThreadText({ thread }: { thread: string | null }) {
  return <span class="thread">{thread ?? UNKNOWN}</span>;
}
