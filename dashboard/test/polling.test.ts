import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { ApiError, Missing } from "../src/api";
import { afterAnswer, afterFailure, delayAfter, nothingHeard, poll, type Polled, type Query } from "../src/polling";

describe("states", () => {
  test("an answer ends all trouble", () => {
    expect(afterAnswer("data", 5)).toEqual({
      phase: "live",
      data: "data",
      heardAt: 5,
      problem: null,
      failures: 0,
      waitSeconds: 0,
    });
  });

  test("a failure keeps what was heard, and when", () => {
    expect(afterFailure(afterAnswer("data", 5), new ApiError("HTTP 503", 503))).toEqual({
      phase: "disconnected",
      data: "data",
      heardAt: 5,
      problem: "HTTP 503",
      failures: 1,
      waitSeconds: 0,
    });
  });

  test("a refusal takes the data away", () => {
    expect(afterFailure(afterAnswer("data", 5), new ApiError("HTTP 401", 401))).toMatchObject({
      phase: "locked",
      data: null,
    });
  });

  test("what is not there, or no longer, is no trouble with the server", () => {
    expect(afterFailure(afterAnswer("data", 5), new Missing("gone"))).toMatchObject({ phase: "missing", data: "data" });
  });

  test("a server that asks for a rest gets it", () => {
    const state = afterFailure(nothingHeard, new ApiError("HTTP 429", 429, 61));
    expect([state.phase, delayAfter(state)]).toEqual(["locked", 61_000]);
  });

  test("a page may ask at its own pace", () => {
    expect(delayAfter(nothingHeard, 10_000)).toBe(10_000);
  });

  test("each failure doubles the delay, up to half a minute", () => {
    const delays = [0, 1, 2, 3, 4, 99].map((failures) => delayAfter({ ...nothingHeard, failures }));
    expect(delays).toEqual([2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });
});

describe("poll", () => {
  let hidden = false;
  const states: Polled<number>[] = [];
  const start = (query: Query<number>, known: Polled<number> = nothingHeard) =>
    poll({ query, interval: 2_000, tell: (state) => states.push(state), known });
  const count = (_signal: AbortSignal, before: number | null) => Promise.resolve((before ?? 0) + 1);
  const untilAborted = (signal: AbortSignal) =>
    new Promise<number>((_resolve, reject) => {
      signal.addEventListener("abort", () => {
        reject(new Error("aborted"));
      });
    });
  const becomes = (isHidden: boolean) => {
    hidden = isHidden;
    document.dispatchEvent(new Event("visibilitychange"));
  };

  beforeEach(() => {
    vi.useFakeTimers();
    vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
    states.length = 0;
    hidden = false;
  });

  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  test("asks at once and then at intervals, handing on what it had", async () => {
    const { stop } = start(count);
    await vi.advanceTimersByTimeAsync(4_100);
    stop();
    expect(states.map((state) => state.data)).toEqual([1, 2, 3]);
  });

  test("goes on from what is known already", async () => {
    const { stop } = start(count, afterAnswer(7, 0));
    await vi.advanceTimersByTimeAsync(0);
    stop();
    expect(states.map((state) => state.data)).toEqual([8]);
  });

  test("is silent once stopped", async () => {
    start(count).stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states).toEqual([]);
  });

  test("rests while the page is hidden and asks at once when it is seen again", async () => {
    const { stop } = start(count);
    await vi.advanceTimersByTimeAsync(0);
    becomes(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states).toHaveLength(1);
    becomes(false);
    await vi.advanceTimersByTimeAsync(0);
    stop();
    expect(states).toHaveLength(2);
  });

  test("does not take being hidden in the middle of a question for a failure", async () => {
    const { stop } = start(untilAborted);
    becomes(true);
    await vi.advanceTimersByTimeAsync(60_000);
    stop();
    expect(states).toEqual([]);
  });

  test("loses patience with a server that never answers", async () => {
    const { stop } = start(() => new Promise<number>(() => undefined));
    await vi.advanceTimersByTimeAsync(10_000);
    stop();
    expect(states).toMatchObject([{ phase: "disconnected", problem: "no answer within 10 s" }]);
  });

  test("recovers by itself", async () => {
    let broken = true;
    const { stop } = start(() => (broken ? Promise.reject(new ApiError("HTTP 503", 503)) : Promise.resolve(1)));
    await vi.advanceTimersByTimeAsync(0);
    broken = false;
    await vi.advanceTimersByTimeAsync(4_000);
    stop();
    expect(states.map((state) => state.phase)).toEqual(["disconnected", "live"]);
  });

  test("does not go on asking for what has gone", async () => {
    const query = vi.fn(() => Promise.reject(new Missing("gone")));
    const { stop } = start(query);
    await vi.advanceTimersByTimeAsync(60_000);
    stop();
    expect(query).toHaveBeenCalledTimes(1);
  });

  test("asks only once when asked to hurry", async () => {
    const query = vi.fn(count);
    const { askNow, stop } = start(query);
    await vi.advanceTimersByTimeAsync(0);
    askNow();
    await vi.advanceTimersByTimeAsync(2_000);
    stop();
    expect(query).toHaveBeenCalledTimes(3);
  });
});
