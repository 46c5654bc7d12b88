/** Ask again and again, calmly: pause while nobody looks, wait longer after each failure. */

import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, Missing } from "./api";

export const INTERVAL_MS = 2_000;
const LONGEST_DELAY_MS = 30_000;
const PATIENCE_MS = 10_000;

export type Phase = "loading" | "live" | "disconnected" | "locked" | "missing";

export interface Polled<Data> {
  phase: Phase;
  data: Data | null;
  /** When the server was last heard, in milliseconds since the epoch. */
  heardAt: number | null;
  problem: string | null;
  failures: number;
  /** How long the server has asked to be left alone, in seconds. */
  waitSeconds: number;
}

export const nothingHeard: Polled<never> = {
  phase: "loading",
  data: null,
  heardAt: null,
  problem: null,
  failures: 0,
  waitSeconds: 0,
};

export function afterAnswer<Data>(data: Data, now: number): Polled<Data> {
  return { ...nothingHeard, phase: "live", data, heardAt: now };
}

export function afterFailure<Data>(before: Polled<Data>, error: unknown): Polled<Data> {
  const failures = before.failures + 1;
  const problem = error instanceof Error ? error.message : String(error);
  const waitSeconds = error instanceof ApiError ? error.waitSeconds : 0;
  // Whoever lost access must not go on reading what was shown before.
  if (error instanceof ApiError && error.isRefusal)
    return { ...nothingHeard, phase: "locked", problem, failures, waitSeconds };
  const phase = error instanceof Missing ? "missing" : "disconnected";
  return { ...before, phase, problem, failures, waitSeconds };
}

export function delayAfter({ failures, waitSeconds }: Polled<unknown>, interval = INTERVAL_MS): number {
  return Math.max(Math.min(interval * 2 ** failures, LONGEST_DELAY_MS), waitSeconds * 1000);
}

/** Asks for a page's data; it is given the data before, so that it need not ask for all of it each time. */
export type Query<Data> = (signal: AbortSignal, before: Data | null) => Promise<Data>;

interface Polling<Data> {
  query: Query<Data>;
  interval: number;
  tell: (state: Polled<Data>) => void;
  /** What is known already. */
  known: Polled<Data>;
}

/**
 * Poll until stopped.
 *
 * @returns what asks at once, and what stops.
 */
export function poll<Data>({ query, interval, tell, known }: Polling<Data>): { askNow: () => void; stop: () => void } {
  let state = known;
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
    // What has gone does not come back by itself.
    if (state.phase !== "missing") timer = setTimeout(askNow, delayAfter(state, interval));
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

/** @param key changes when something else is to be asked; what is known is shown until that is answered */
export function usePolling<Data>(
  query: Query<Data>,
  interval: number,
  key: string,
): { state: Polled<Data>; askNow: () => void } {
  const [state, setState] = useState<Polled<Data>>(nothingHeard);
  const latest = useRef(state);
  latest.current = state;
  const askNow = useRef<() => void>(() => undefined);
  useEffect(() => {
    const polling = poll({ query, interval, tell: setState, known: latest.current });
    askNow.current = polling.askNow;
    return polling.stop;
  }, [key]);
  return {
    state,
    askNow: () => {
      askNow.current();
    },
  };
}
