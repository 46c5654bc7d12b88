/** Ask again and again, calmly: pause while nobody looks, wait longer after each failure. */

import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError } from "./api";

export const INTERVAL_MS = 2_000;
const LONGEST_DELAY_MS = 30_000;
const PATIENCE_MS = 10_000;

export type Phase = "loading" | "live" | "disconnected" | "locked";

export interface Polled<Data> {
  phase: Phase;
  data: Data | null;
  /** When the server was last heard, in milliseconds since the epoch. */
  heardAt: number | null;
  problem: string | null;
  failures: number;
}

export const nothingHeard: Polled<never> = { phase: "loading", data: null, heardAt: null, problem: null, failures: 0 };

export function afterAnswer<Data>(data: Data, now: number): Polled<Data> {
  return { phase: "live", data, heardAt: now, problem: null, failures: 0 };
}

export function afterFailure<Data>(before: Polled<Data>, error: unknown): Polled<Data> {
  const failures = before.failures + 1;
  const problem = error instanceof Error ? error.message : String(error);
  // Whoever lost access must not go on reading what was shown before.
  if (error instanceof ApiError && error.isRefusal) return { ...nothingHeard, phase: "locked", problem, failures };
  return { ...before, phase: "disconnected", problem, failures };
}

export function delayAfter({ failures }: Polled<unknown>): number {
  return Math.min(INTERVAL_MS * 2 ** failures, LONGEST_DELAY_MS);
}

/** Asks for a page's data; it is given the data before, so that it can keep a history. */
export type Query<Data> = (signal: AbortSignal, before: Data | null) => Promise<Data>;

/**
 * Poll until stopped.
 *
 * @returns what asks at once, and what stops.
 */
export function poll<Data>(
  query: Query<Data>,
  tell: (state: Polled<Data>) => void,
): { askNow: () => void; stop: () => void } {
  let state: Polled<Data> = nothingHeard;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let round = new AbortController();

  function pause(): void {
    clearTimeout(timer);
    round.abort();
  }

  async function ask(): Promise<void> {
    pause();
    const mine = (round = new AbortController());
    const next = await outcome(query, state, mine.signal);
    if (mine.signal.aborted) return;
    state = next;
    tell(state);
    timer = setTimeout(askNow, delayAfter(state));
  }

  function askNow(): void {
    void ask();
  }

  function followVisibility(): void {
    if (document.hidden) pause();
    else askNow();
  }

  function stop(): void {
    document.removeEventListener("visibilitychange", followVisibility);
    pause();
  }

  document.addEventListener("visibilitychange", followVisibility);
  followVisibility();
  return { askNow, stop };
}

async function outcome<Data>(query: Query<Data>, before: Polled<Data>, signal: AbortSignal): Promise<Polled<Data>> {
  try {
    return afterAnswer(await withPatience(query, before.data, signal), Date.now());
  } catch (error) {
    return afterFailure(before, error);
  }
}

/** A server whose workers all wait for a connection accepts the request and never answers it. */
async function withPatience<Data>(query: Query<Data>, before: Data | null, stopped: AbortSignal): Promise<Data> {
  const attempt = new AbortController();
  const abandon = (): void => {
    attempt.abort();
  };
  stopped.addEventListener("abort", abandon);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new ApiError(`no answer within ${PATIENCE_MS / 1000} s`));
    }, PATIENCE_MS);
  });
  try {
    return await Promise.race([query(attempt.signal, before), silence]);
  } finally {
    clearTimeout(timer);
    stopped.removeEventListener("abort", abandon);
    abandon();
  }
}

export function usePolling<Data>(query: Query<Data>): { state: Polled<Data>; askNow: () => void } {
  const [state, setState] = useState<Polled<Data>>(nothingHeard);
  const askNow = useRef<() => void>(() => undefined);
  useEffect(() => {
    const polling = poll(query, setState);
    askNow.current = polling.askNow;
    return polling.stop;
  }, [query]);
  return {
    state,
    askNow: () => {
      askNow.current();
    },
  };
}
