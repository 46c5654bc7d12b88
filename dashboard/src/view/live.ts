/** What the page says about the live picture, worked out from the answer and nothing else. */

import type { Checkout, Engine, Live, ScopeName, Session, Worker, WorkerName } from "../api";
import { duration, secondsBetween, UNKNOWN } from "./format";

/** Longer than a few publishing intervals: what such a worker last said may no longer be so. */
const SILENT_AFTER_SECONDS = 10;

export type Row<Fact> = Fact & { key: string };

export interface Headline {
  sessions: number;
  sessionsWithoutConnection: number;
  oldest: Checkout | null;
  leakedCheckouts: number;
  leakedSessions: number;
}

export function headline(live: Live): Headline {
  return {
    sessions: live.sessions.length,
    sessionsWithoutConnection: live.sessions.filter(ownsNoConnection).length,
    oldest: holders(live)[0] ?? null,
    leakedCheckouts: live.checkouts.filter((checkout) => checkout.leaked && !checkout.session).length,
    leakedSessions: live.sessions.filter((session) => session.leaked).length,
  };
}

/** Every checkout, the oldest first. */
export function holders(live: Live): Row<Checkout>[] {
  return oldestFirst(live.checkouts);
}

/** A healthy session that owns a connection is told by its checkout; these would be seen nowhere else. */
export function sessionsToTell(live: Live): Row<Session>[] {
  return oldestFirst(live.sessions.filter((session) => session.leaked || ownsNoConnection(session)));
}

const ownsNoConnection = (session: Session): boolean => session.checkouts === 0;

function oldestFirst<Fact extends Checkout | Session>(facts: Fact[]): Row<Fact>[] {
  return facts
    .map((fact) => ({ ...fact, key: `${workerKey(fact)} ${fact.id}` }))
    .sort((one, other) => (other.age_seconds ?? 0) - (one.age_seconds ?? 0));
}

/** Ids are unique within a process only. */
const workerKey = ({ host, pid }: WorkerName): string => `${host} ${pid}`;

export function sessionState(session: Session): string {
  if (session.writes === null) return UNKNOWN;
  return session.writes > 0 ? "uncommitted changes" : "reads only";
}

const kindNames = {
  request: "request",
  app_context: "app context",
  command: "command",
  explicit: "explicit scope",
  test: "test",
  task: "task",
} as const;

export function scopeKind({ scope_kind }: ScopeName): string | null {
  return scope_kind === null ? null : kindNames[scope_kind];
}

export interface PoolUse extends Engine {
  /** "5 of 15" */
  text: string;
  /** "3 idle, 0 waiting" as far as the pool tells */
  rest: string;
  /** Shares of the bar, in percent; they never exceed 100 together. */
  usedShare: number;
  idleShare: number;
  alarm: "none" | "near" | "full";
}

const NEAR_LIMIT = 0.8;

export function poolUse(engine: Engine): PoolUse {
  const whole = engine.max ?? Math.max(engine.size ?? 0, engine.used + (engine.idle ?? 0));
  const usedShare = share(engine.used, whole);
  return {
    ...engine,
    text: engine.max === null ? String(engine.used) : `${engine.used} of ${engine.max}`,
    rest: [told(engine.idle, "idle"), told(engine.waiting, "waiting")].filter(Boolean).join(", "),
    usedShare,
    idleShare: Math.min(share(engine.idle ?? 0, whole), 100 - usedShare),
    alarm: alarmOf(engine),
  };
}

const told = (count: number | null, what: string): string => (count === null ? "" : `${count} ${what}`);

function share(part: number, whole: number): number {
  return whole > 0 ? Math.min(100, (100 * part) / whole) : 0;
}

function alarmOf({ used, max, waiting }: Engine): PoolUse["alarm"] {
  if ((waiting ?? 0) > 0 || (max !== null && used >= max)) return "full";
  return max !== null && used >= NEAR_LIMIT * max ? "near" : "none";
}

export interface WorkerRow extends Row<Worker> {
  heardSecondsAgo: number | null;
  upSeconds: number | null;
  silent: boolean;
}

export function workers(live: Live): WorkerRow[] {
  return live.workers
    .map((worker) => workerRow(worker, live.now))
    .sort((one, other) => one.host.localeCompare(other.host) || one.pid - other.pid);
}

function workerRow(worker: Worker, now: string): WorkerRow {
  const heardSecondsAgo = secondsBetween(now, worker.seen_at);
  return {
    ...worker,
    key: workerKey(worker),
    heardSecondsAgo,
    upSeconds: secondsBetween(now, worker.started_at),
    silent: heardSecondsAgo === null || heardSecondsAgo > SILENT_AFTER_SECONDS,
  };
}

/** The chart in one sentence, for those who do not see it. */
export function usageInWords(engines: Engine[]): string {
  const parts = engines.map(
    (engine) => `${engine.name} ${poolUse(engine).text}, oldest ${duration(engine.oldest_age_seconds)}`,
  );
  return `Connections used over time; now: ${parts.join("; ")}.`;
}
