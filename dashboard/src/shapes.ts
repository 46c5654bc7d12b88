/** What the server answers; docs and the OpenAPI document say the same. */

export type Time = string;
export type Level = "info" | "warning" | "error";
export type Span = "15m" | "1h" | "6h";

export interface Site {
  filename: string;
  lineno: number;
  function: string;
}

export interface Frame extends Site {
  application: boolean;
}

/** Lines of one of the application's own files. */
export interface Source {
  filename: string;
  /** The line this is about. */
  lineno: number;
  first_lineno: number;
  lines: string[];
}

export interface WorkerName {
  host: string;
  pid: number;
}

export interface ScopeName {
  scope: string | null;
  scope_kind: string | null;
}

/** Counts between bounds, in seconds; there is one more count than bounds, for all that took longer. */
export interface Histogram {
  bounds: number[];
  counts: number[];
  sum: number;
}

export interface Answer {
  now: Time;
  /** Why only the process that answered is shown; null where all are. */
  store: { problem: string | null };
}

export interface Worker extends WorkerName {
  started_at: Time;
  seen_at: Time;
  version: string | null;
}

/** One worker's pool. */
export interface Engine extends WorkerName {
  name: string;
  dialect: string;
  pool: string;
  size: number | null;
  /** Null when the pool has no limit or does not tell. */
  max: number | null;
  overflow: number;
  used: number;
  idle: number;
  waiting: number;
  oldest_age_seconds: number | null;
}

export interface Held extends ScopeName, WorkerName {
  id: string;
  site: Site | null;
  age_seconds: number;
  since: Time;
  thread: string;
  leaked: boolean;
  stack: Frame[];
  /** What its holder is doing now, in words, where they are known. */
  doing: string | null;
  now: Frame[];
}

export interface Session extends Held {
  writes: number;
  checkouts: number;
}

export interface Checkout extends Held {
  engine: string;
  /** Whether a Session owns it; otherwise the application checked it out itself. */
  session: boolean;
  session_id: string | null;
  statements: number;
  /** The connection's number at its database server. */
  server_id: number | null;
  idle_seconds: number;
}

export interface Live extends Answer {
  workers: Worker[];
  engines: Engine[];
  sessions: Session[];
  checkouts: Checkout[];
  omitted: { sessions: number; checkouts: number };
}

/** One of them, with its stacks. */
export interface OneHeld extends Answer {
  held: Held & { sources: Source[] };
}

export type Column = (number | null)[];
export type Outcome = "commit" | "rollback" | "rollback_on_close" | "error" | "garbage_collected";

export interface EngineSeries {
  name: string;
  used: Column;
  idle: Column;
  max: Column;
  waiting: Column;
  connects: Column;
  timeouts: Column;
}

export interface Series extends Answer {
  span: Span;
  step_seconds: number;
  start: Time;
  workers: number[];
  sessions: Column;
  scopes: Column;
  findings: Column;
  transactions: Record<Outcome, Column>;
  engines: EngineSeries[];
}

export interface SeenBy extends WorkerName {
  gone: boolean;
  count: number;
  first_seen: Time;
  last_seen: Time;
  resolved: boolean;
}

/** A finding as the list has it. */
export interface Finding extends ScopeName {
  code: string;
  rule: string;
  level: Level;
  message: string;
  site: Site | null;
  about: string | null;
  engine: string | null;
  /** What happened at the site. */
  verb: string;
  fingerprint: string;
  count: number;
  first_seen: Time;
  last_seen: Time;
  resolved: boolean;
  known: boolean;
  /** Occurrences in each minute of the last hour, the newest last. */
  recent: number[];
  workers: SeenBy[];
  worker_count: number;
}

export interface FacetValue {
  value: string;
  count: number;
}

export type Facet = "rule" | "code" | "level" | "engine" | "scope" | "worker";

export interface Findings extends Answer {
  findings: Finding[];
  /** After the filters, before the limit. */
  total: number;
  counts: { open: Record<Level, number>; resolved: number; known: number };
  facets: Record<Facet, FacetValue[]>;
}

export interface TimelineEvent {
  event: string;
  /** Since the first event. */
  seconds: number | null;
  at: Time | null;
  site: Site | null;
  text: string | null;
}

export interface OneFinding extends Finding, Answer {
  hint: string;
  details: Record<string, unknown>;
  stack: Frame[];
  sources: Source[];
  timeline: TimelineEvent[];
  page: string | null;
  ignore: string;
}

export interface BadScope extends WorkerName {
  at: Time;
  verdict: Level;
  status: number | null;
  error: string | null;
  thread: string;
  commits: number;
  connections_peak: number;
  findings: string[];
}

export type Verdict = "clean" | Level;

/** What all scopes of one name have used. */
export interface Scope {
  scope: string;
  kind: string;
  count: number;
  verdicts: Record<Verdict, number>;
  commits: { p50: number; p95: number; max: number };
  sessions: number;
  connections_peak: number;
  hold_seconds: number;
  wait_seconds: number;
  lost_writes: number;
  hold_share: number;
  lost_writes_share: number;
  bad: BadScope[];
}

export interface HoldingSite {
  site: Site;
  hold_seconds: number;
  checkouts: number;
}

export interface Scopes extends Answer {
  scopes: Scope[];
  sites: (HoldingSite & { engine: string })[];
}

/** An engine's pools in all workers together. */
export interface Pool {
  name: string;
  dialect: string | null;
  pool: string | null;
  size: number | null;
  max: number | null;
  overflow: number;
  used: number;
  idle: number;
  waiting: number;
  workers: number;
  oldest_age_seconds: number | null;
  /** The most one worker had checked out at once. */
  peak: number;
  hold: Histogram;
  wait: Histogram;
  connect: Histogram;
  checkouts: number;
  timeouts: number;
  connects: number;
  sites: HoldingSite[];
}

export interface Pools extends Answer {
  engines: Pool[];
}

export interface FleetWorker extends WorkerName {
  live: boolean;
  started_at: Time;
  seen_at: Time;
  version: string;
  python: string;
  sqlalchemy: string;
  flask: string;
  dropped: number;
  internal_errors: number;
  /** False once it has stepped aside. */
  watching: boolean;
  self_seconds: number;
  cpu_seconds: number;
  findings: number;
}

export interface Fleet extends Answer {
  workers: FleetWorker[];
}

export interface Threshold {
  option: string | null;
  setting: string;
  value: number;
}

export interface Rule {
  code: string;
  rule: string;
  level: Level;
  hint: string;
  page: string;
  settings: Record<string, unknown>;
  enabled: boolean;
  ignored: string[];
  thresholds: Threshold[];
  findings: { open: number; total: number };
}

export interface Rules extends Answer {
  rules: Rule[];
}
