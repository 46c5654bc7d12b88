/** The small pieces that every table and figure is made of. */

import { type ComponentChildren, Fragment } from "preact";

import { addressOf } from "../router";
import type { Level, Site, WorkerName } from "../shapes";
import { breakable, fullSite, shortPath } from "../view/format";
import { scopeKind } from "../view/live";

export type Tone = "error" | "warning" | "info" | "ok" | "plain";

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function LevelBadge({ level }: { level: Level }) {
  return <Badge tone={level}>{level}</Badge>;
}

/** A name that is broken between its words rather than within one. */
export function Name({ text }: { text: string }) {
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

export function ScopeText({ scope, kind }: { scope: string | null; kind: string | null }) {
  const kindName = scopeKind(kind);
  return (
    <span class="scope">
      {scope === null ? <span class="quiet">no scope</span> : <Name text={scope} />}
      {kindName === null ? null : <small> {kindName}</small>}
    </span>
  );
}

export function WorkerText({ worker }: { worker: WorkerName }) {
  return (
    <span class="worker">
      {worker.pid} <small class="host">on {worker.host}</small>
    </span>
  );
}

export function ThreadText({ thread }: { thread: string }) {
  return (
    <span class="thread">
      <Name text={thread} />
    </span>
  );
}

/** A rule's name, which leads to its manual page. */
export function RuleLink({ code, rule }: { code: string; rule: string }) {
  return (
    <a href={addressOf(["rules", code])}>
      {code} {rule}
    </a>
  );
}
