/** The query layer: the only module that asks the server. What it answers is in `shapes.ts`. */

import type {
  Answer,
  Findings,
  Fleet,
  Live,
  OneFinding,
  OneHeld,
  Pools,
  Rules,
  Scopes,
  Series,
  Span,
} from "./shapes";

/** An answer that is not the one asked for; `status` is null when the server gave no HTTP answer at all. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number | null = null,
    /** Seconds for which the server has asked to be left alone. */
    readonly waitSeconds = 0,
  ) {
    super(message);
  }

  /** A watcher that refuses strangers may also pretend not to exist. */
  get isRefusal(): boolean {
    return this.status === 401 || this.status === 404 || this.status === 429;
  }
}

/** What was asked for by its name is not there, or no longer. */
export class Missing extends Error {}

/** When an answer was received, on the reader's clock, in milliseconds since the epoch. */
export type Received<Given> = Given & { receivedAt: number };

export const fetchLive = (signal: AbortSignal): Promise<Received<Live>> =>
  lists<Live>("api/v1/live?stacks=false", ["workers", "engines", "sessions", "checkouts"], signal);

export const fetchSeries = (span: Span, signal: AbortSignal): Promise<Received<Series>> =>
  lists<Series>(`api/v1/series?span=${span}`, ["sessions", "findings", "engines"], signal);

/** @param query what the list is narrowed by, in the API's own words */
export const fetchFindings = (query: URLSearchParams, signal: AbortSignal): Promise<Received<Findings>> =>
  lists<Findings>(`api/v1/findings?${new URLSearchParams([...query, ["brief", "true"]])}`, ["findings"], signal);

export const fetchScopes = (signal: AbortSignal): Promise<Received<Scopes>> =>
  lists<Scopes>("api/v1/scopes", ["scopes", "sites"], signal);

export const fetchPools = (signal: AbortSignal): Promise<Received<Pools>> =>
  lists<Pools>("api/v1/pools", ["engines"], signal);

export const fetchRules = (signal: AbortSignal): Promise<Received<Rules>> =>
  lists<Rules>("api/v1/rules", ["rules"], signal);

/** When a worker was heard is in no ETag, and here it is what matters. */
export const fetchFleet = async (signal: AbortSignal): Promise<Received<Fleet>> => {
  known.delete("api/v1/fleet");
  return lists<Fleet>("api/v1/fleet", ["workers"], signal);
};

export const fetchFinding = (fingerprint: string, signal: AbortSignal): Promise<Received<OneFinding>> =>
  one<OneFinding>(`api/v1/findings/${encodeURIComponent(fingerprint)}`, ["stack", "workers"], signal);

export const fetchCheckout = (id: string, signal: AbortSignal): Promise<Received<OneHeld>> =>
  one<OneHeld>(`api/v1/checkouts/${encodeURIComponent(id)}`, [], signal);

export const fetchSession = (id: string, signal: AbortSignal): Promise<Received<OneHeld>> =>
  one<OneHeld>(`api/v1/sessions/${encodeURIComponent(id)}`, [], signal);

async function one<Given>(path: string, expected: (keyof Given & string)[], signal: AbortSignal) {
  try {
    return await lists<Given>(path, expected, signal);
  } catch (error) {
    throw error instanceof ApiError && error.status === 404 ? new Missing(error.message) : error;
  }
}

/** Get a JSON object and make sure of its lists, so that a stranger's answer ends here and not in the middle of a page. */
async function lists<Given>(
  path: string,
  expected: (keyof Given & string)[],
  signal: AbortSignal,
): Promise<Received<Given>> {
  const answer = await fetchJson(path, signal);
  const missing = expected.filter((name) => !Array.isArray((answer as Record<string, unknown> | null)?.[name]));
  if (missing.length > 0) throw new ApiError(`${nameOf(path)} answered without ${missing.join(", ")}`);
  return answer as Received<Given>;
}

interface Known {
  etag: string;
  answer: Received<Answer>;
}

/** What each address answered last: the server need not send it again while nothing but time has passed. */
const known = new Map<string, Known>();
const MOST_KNOWN = 12;

async function fetchJson(path: string, signal: AbortSignal): Promise<unknown> {
  const before = known.get(path);
  const response = await request(path, before?.etag, signal);
  if (response.status === 304 && before !== undefined) return before.answer;
  if (!response.ok) throw refused(path, response);
  const answer = { ...(await json(path, response)), receivedAt: Date.now() };
  remember(path, response.headers.get("ETag"), answer);
  return answer;
}

function refused(path: string, { status, headers }: Response): ApiError {
  // What was shown before is not for those who are refused now.
  known.clear();
  const wait = Number(headers.get("Retry-After"));
  return new ApiError(`${nameOf(path)} answered HTTP ${status}`, status, Number.isFinite(wait) ? wait : 0);
}

function remember(path: string, etag: string | null, answer: Received<Answer>): void {
  known.delete(path);
  if (etag !== null) known.set(path, { etag, answer });
  for (const oldest of known.keys()) {
    if (known.size <= MOST_KNOWN) return;
    known.delete(oldest);
  }
}

async function json(path: string, response: Response): Promise<Answer> {
  try {
    return (await response.json()) as Answer;
  } catch {
    throw new ApiError(`${nameOf(path)} did not answer with JSON`);
  }
}

async function request(path: string, etag: string | undefined, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(path, {
      signal,
      credentials: "same-origin",
      cache: "no-store",
      headers: { Accept: "application/json", ...(etag !== undefined && { "If-None-Match": etag }) },
    });
  } catch {
    throw new ApiError("the server does not answer");
  }
}

const nameOf = (path: string): string => path.replace(/\?.*$/, "");
