/** The small pieces that every table and figure is made of. */

import { type ComponentChildren, Fragment } from "preact";

import type { Level, ScopeName, Site, WorkerName } from "../api";
import { breakable, fullSite, shortPath, UNKNOWN } from "../view/format";
import { scopeKind } from "../view/live";

export type Tone = "error" | "warning" | "info" | "ok" | "plain";

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function LevelBadge({ level }: { level: Level }) {
  return <Badge tone={level}>{level}</Badge>;
}

/** A name that is broken between its words rather than within one. */
function Name({ text }: { text: string }) {
  return (
    <>
      {breakable(text).map((part, index) => (
        <Fragment key={index}>
          {index > 0 ? <wbr /> : null}
          {part}
        </Fragment>
      ))}
    </>
  );
}

export function SiteText({ site }: { site: Site | null }) {
  if (site === null) return <span class="quiet">unknown</span>;
  return (
    <span class="site" title={fullSite(site)}>
      <span class="site-line">
        <Name text={shortPath(site.filename)} />
        <span class="lineno">:{site.lineno}</span>
      </span>{" "}
      <span class="function">in {site.function}</span>
    </span>
  );
}

export function ScopeText({ scoped }: { scoped: ScopeName }) {
  const kind = scopeKind(scoped);
  return (
    <span class="scope">
      {scoped.scope === null ? <span class="quiet">no scope</span> : <Name text={scoped.scope} />}
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
  return (
    <span class="thread">
      <Name text={thread ?? UNKNOWN} />
    </span>
  );
}
