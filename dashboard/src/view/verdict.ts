/** Four answers at a glance: is anything leaking, who holds the connections, which line is guilty, what is to be done. */

import type { Checkout, Finding, Held, Live, Session, Site } from "../shapes";
import { LEVELS } from "./findings";
import { counted } from "./format";
import { type EngineUse, engineUses, useInWords } from "./live";

export interface Verdict {
  tone: "error" | "warning" | "ok";
  /** One sentence. */
  fact: string;
  /** The line that holds most of what the fact is about. */
  guilty: Guilty | null;
}

export interface Guilty {
  site: Site;
  scope: string | null;
  held: number;
  of: number;
  oldest: Held;
  /** What was found there, where anything was. */
  finding: Finding | null;
}

/** @param findings the open ones, the latest first */
export function verdict(live: Live, findings: readonly Finding[]): Verdict {
  const leaked = leaks(live);
  if (leaked.length > 0)
    return { tone: "error", fact: `${leakInWords(live)} leaked.`, guilty: guiltyOf(leaked, findings) };
  const tight = engineUses(live).filter(({ alarm }) => alarm !== "none");
  const [worst] = [...tight].sort((one, other) => other.waiting - one.waiting || other.usedShare - one.usedShare);
  if (worst !== undefined) return tightness(worst, live, findings);
  return { tone: "ok", fact: restInWords(live), guilty: null };
}

/** A session is told once: by the connection it owns, where it owns one. */
function leaks(live: Live): Held[] {
  const owned = new Set(live.checkouts.map(({ session_id }) => session_id));
  const sessions = live.sessions.filter(({ leaked, id }) => leaked && !owned.has(id));
  return [...live.checkouts.filter(({ leaked }) => leaked), ...sessions];
}

export interface LeakCounts {
  connections: number;
  sessions: number;
}

/** Connections that leaked without a Session, and Sessions that leaked, with or without a connection. */
export function leakCounts({ checkouts, sessions }: Pick<Live, "checkouts" | "sessions">): LeakCounts {
  return {
    connections: checkouts.filter(({ leaked, session }: Checkout) => leaked && !session).length,
    sessions: sessions.filter(({ leaked }: Session) => leaked).length,
  };
}

function leakInWords(live: Live): string {
  const { connections, sessions } = leakCounts(live);
  const parts = [
    ...(connections > 0 ? [counted(connections, "connection")] : []),
    ...(sessions > 0 ? [counted(sessions, "session")] : []),
  ];
  const all = connections + sessions;
  return `${parts.join(" and ") || counted(leaks(live).length, "connection")} ${all === 1 ? "has" : "have"}`;
}

function tightness(use: EngineUse, live: Live, findings: readonly Finding[]): Verdict {
  const held = live.checkouts.filter(({ engine }) => engine === use.name);
  const full = use.alarm === "full";
  const waiting = use.waiting > 0 ? `, and ${counted(use.waiting, "thread")} ${use.waiting === 1 ? "waits" : "wait"}` : "";
  const where = use.workers > 1 ? " in one of its workers" : "";
  return {
    tone: full ? "error" : "warning",
    fact: `The pool of '${use.name}' is ${full ? "full" : "nearly full"}${where}: ${useInWords(use)} held${waiting}.`,
    guilty: guiltyOf(held, findings),
  };
}

function restInWords({ checkouts, engines }: Live): string {
  if (engines.length === 0) return "Nothing has used a database yet.";
  if (checkouts.length === 0) return "Nothing leaks, and no connection is held.";
  return `Nothing leaks. ${counted(checkouts.length, "connection")} ${checkouts.length === 1 ? "is" : "are"} at work.`;
}

function guiltyOf(held: readonly Held[], findings: readonly Finding[]): Guilty | null {
  const bySite = new Map<string, Held[]>();
  for (const each of held)
    if (each.site !== null) bySite.set(placeOf(each.site), [...(bySite.get(placeOf(each.site)) ?? []), each]);
  const [most] = [...bySite.values()].sort((one, other) => other.length - one.length);
  const oldest = most?.reduce((one, other) => (other.age_seconds > one.age_seconds ? other : one));
  if (most === undefined || oldest?.site == null) return null;
  const { site, scope } = oldest;
  return { site, scope, held: most.length, of: held.length, oldest, finding: foundAt(site, scope, findings) };
}

/** What was found at this line: rather in this scope, and rather the worst. */
function foundAt(site: Site, scope: string | null, findings: readonly Finding[]): Finding | null {
  const distance = (finding: Finding): number =>
    LEVELS.indexOf(finding.level) + (finding.scope === scope ? 0 : LEVELS.length);
  const here = findings.filter((finding) => finding.site !== null && placeOf(finding.site) === placeOf(site));
  return [...here].sort((one, other) => distance(one) - distance(other))[0] ?? null;
}

const placeOf = ({ filename, lineno }: Site): string => `${filename}:${lineno}`;
