/** The query layer: the only module that asks the server, and the shapes of what it answers. */

export interface Site {
  filename: string;
  lineno: number;
  function: string;
}

export interface Frame extends Site {
  application: boolean;
}

export type ScopeKind = "request" | "app_context" | "command" | "explicit" | "test" | "task";

export interface ScopeName {
  scope: string | null;
  scope_kind: ScopeKind | null;
}

export interface WorkerName {
  host: string;
  pid: number;
}

export interface Worker extends WorkerName {
  started_at: string | null;
  seen_at: string | null;
  version: string | null;
}

export interface Engine {
  name: string;
  dialect: string | null;
  pool: string | null;
  size: number | null;
  /** Null when the pool has no limit or does not tell. */
  max: number | null;
  used: number;
  idle: number | null;
  waiting: number | null;
  oldest_age_seconds: number | null;
}

export interface Session extends ScopeName, WorkerName {
  id: string | number;
  site: Site | null;
  age_seconds: number | null;
  thread: string | null;
  writes: number | null;
  checkouts: number;
  leaked: boolean;
  stack: Frame[];
}

export interface Checkout extends ScopeName, WorkerName {
  id: string | number;
  engine: string;
  site: Site | null;
  age_seconds: number | null;
  thread: string | null;
  /** Whether a Session owns it; otherwise the application checked it out itself. */
  session: boolean;
  statements: number | null;
  idle_seconds: number | null;
  leaked: boolean;
  stack: Frame[];
  /** What its holder is doing now, in words, where they are known. */
  doing?: string | null;
  now: Frame[];
}

export interface Live {
  now: string;
  workers: Worker[];
  engines: Engine[];
  sessions: Session[];
  checkouts: Checkout[];
}

export type Level = "info" | "warning" | "error";

export interface Finding extends ScopeName {
  code: string;
  rule: string;
  level: Level;
  message: string;
  site: Site | null;
  hint: string | null;
  count: number;
  first_seen: string;
  last_seen: string;
  resolved: boolean;
  fingerprint: string;
  details: Record<string, unknown>;
  stack: Frame[];
}

/** An answer that is not the one asked for; `status` is null when the server gave no HTTP answer at all. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number | null = null,
  ) {
    super(message);
  }

  /** A watcher that refuses strangers may also pretend not to exist. */
  get isRefusal(): boolean {
    return this.status === 401 || this.status === 404;
  }
}

export const fetchLive = (signal: AbortSignal): Promise<Live> =>
  fetchLists<Live>("api/v1/live", ["workers", "engines", "sessions", "checkouts"], signal);

export const fetchFindings = async (signal: AbortSignal): Promise<Finding[]> =>
  (await fetchLists<{ findings: Finding[] }>("api/v1/findings", ["findings"], signal)).findings;

/** Get a JSON object and make sure of its lists, so that a stranger's answer ends here and not in the middle of a page. */
async function fetchLists<Answer>(
  path: string,
  lists: (keyof Answer & string)[],
  signal: AbortSignal,
): Promise<Answer> {
  const answer = await fetchJson(path, signal);
  const missing = lists.filter((name) => !Array.isArray((answer as Record<string, unknown> | null)?.[name]));
  if (missing.length > 0) throw new ApiError(`${path} answered without ${missing.join(", ")}`);
  return answer as Answer;
}

async function fetchJson(path: string, signal: AbortSignal): Promise<unknown> {
  const response = await request(path, signal);
  if (!response.ok) throw new ApiError(`${path} answered HTTP ${response.status}`, response.status);
  try {
    return await response.json();
  } catch {
    throw new ApiError(`${path} did not answer with JSON`);
  }
}

async function request(path: string, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(path, {
      signal,
      credentials: "same-origin",
      cache: "no-store",
      headers: { Accept: "application/json" },
    });
  } catch {
    throw new ApiError("the server does not answer");
  }
}
