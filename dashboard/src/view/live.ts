/** What the page says about the live picture, worked out from the answer and nothing else. */

import type { Received } from "../api";
import type { Checkout, Engine, Held, Live, ScopeName, Session } from "../shapes";
import { duration, sinceOf } from "./format";

export type Row<Fact> = Fact & { key: string };

/** Something that is held, and since when on the reader's clock. */
export type HeldRow<Fact extends Held> = Row<Fact> & { began: number };

/** Every checkout, the oldest first. */
export function holders(live: Received<Live>): HeldRow<Checkout>[] {
  return live.checkouts.map((checkout) => heldRow(checkout, live));
}

/** A healthy session that owns a connection is told by its checkout; these would be seen nowhere else. */
export function sessionsToTell(live: Received<Live>): HeldRow<Session>[] {
  return live.sessions
    .filter((session) => session.leaked || session.checkouts === 0)
    .map((session) => heldRow(session, live));
}

const heldRow = <Fact extends Held>(fact: Fact, live: Received<Live>): HeldRow<Fact> => ({
  ...fact,
  key: fact.id,
  began: sinceOf(live, fact.since),
});

export function sessionState(session: Session): string {
  return session.writes > 0 ? "uncommitted changes" : "reads only";
}

const kindNames: Readonly<Record<string, string>> = {
  app_context: "app context",
  explicit: "explicit scope",
};

export function scopeKind(kind: string | null): string | null {
  return kind === null ? null : (kindNames[kind] ?? kind);
}

export interface EngineUse {
  name: string;
  dialect: string | null;
  pool: string | null;
  used: number;
  idle: number;
  waiting: number;
  /** Null when the pool has no limit or does not tell. */
  max: number | null;
  workers: number;
  /** The oldest checkout's age when the answer came. */
  oldest: number | null;
  alarm: "none" | "near" | "full";
  /** Shares of the bar, in percent; they never exceed 100 together. */
  usedShare: number;
  idleShare: number;
}

const NEAR_LIMIT = 0.8;

/** The pools of each engine in all workers together; the fullest of them says whether to be alarmed. */
export function engineUses(live: Pick<Live, "engines">): EngineUse[] {
  const byName = new Map<string, Engine[]>();
  for (const engine of live.engines) byName.set(engine.name, [...(byName.get(engine.name) ?? []), engine]);
  return [...byName].sort(([one], [other]) => one.localeCompare(other)).map(([, pools]) => together(pools));
}

function together(pools: Engine[]): EngineUse {
  const [first] = pools as [Engine, ...Engine[]];
  const max = pools.some((pool) => pool.max === null) ? null : sum(pools, (pool) => pool.max);
  const used = sum(pools, (pool) => pool.used);
  const idle = sum(pools, (pool) => pool.idle);
  const whole = max ?? Math.max(
    sum(pools, (pool) => pool.size),
    used + idle,
  );
  const usedShare = share(used, whole);
  return {
    name: first.name,
    dialect: first.dialect,
    pool: first.pool,
    used,
    idle,
    waiting: sum(pools, (pool) => pool.waiting),
    max,
    workers: pools.length,
    oldest: pools.reduce<number | null>((most, { oldest_age_seconds: age }) => maximum(most, age), null),
    alarm: worst(pools.map(alarmOf)),
    usedShare,
    idleShare: Math.min(share(idle, whole), 100 - usedShare),
  };
}

const sum = (pools: Engine[], part: (pool: Engine) => number | null): number =>
  pools.reduce((total, pool) => total + (part(pool) ?? 0), 0);

function maximum(one: number | null, other: number | null): number | null {
  if (one === null || other === null) return one ?? other;
  return Math.max(one, other);
}

const share = (part: number, whole: number): number => (whole > 0 ? Math.min(100, (100 * part) / whole) : 0);

type Alarm = EngineUse["alarm"];

function alarmOf({ used, max, waiting }: Engine): Alarm {
  if (waiting > 0 || (max !== null && max > 1 && used >= max)) return "full";
  return max !== null && max > 1 && used >= NEAR_LIMIT * max ? "near" : "none";
}

const worst = (alarms: Alarm[]): Alarm =>
  (["full", "near"] as const).find((alarm) => alarms.includes(alarm)) ?? "none";

/** "5 of 15" */
export const useInWords = ({ used, max }: Pick<EngineUse, "used" | "max">): string =>
  max === null ? String(used) : `${used} of ${max}`;

/** The chart in one sentence, for those who do not see it. */
export function usageInWords(uses: EngineUse[]): string {
  const parts = uses.map((use) => `${use.name} ${useInWords(use)}, oldest ${duration(use.oldest)}`);
  return `Connections in use over time; now: ${parts.join("; ")}.`;
}

export const nameOfScope = ({ scope }: Pick<ScopeName, "scope">): string => scope ?? "work outside of any scope";
