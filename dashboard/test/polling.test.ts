import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { ApiError } from "../src/api";
import { afterAnswer, afterFailure, delayAfter, nothingHeard, poll, type Polled } from "../src/polling";

describe("states", () => {
  test("an answer ends all trouble", () => {
    expect(afterAnswer("data", 5)).toEqual({ phase: "live", data: "data", heardAt: 5, problem: null, failures: 0 });
  });

  test("a failure keeps what was heard, and when", () => {
    expect(afterFailure(afterAnswer("data", 5), new ApiError("HTTP 503", 503))).toEqual({
      phase: "disconnected",
      data: "data",
      heardAt: 5,
      problem: "HTTP 503",
      failures: 1,
    });
  });

  test("a refusal takes the data away", () => {
    expect(afterFailure(afterAnswer("data", 5), new ApiError("HTTP 401", 401))).toMatchObject({
      phase: "locked",
      data: null,
    });
  });

  test("each failure doubles the delay, up to half a minute", () => {
    const delays = [0, 1, 2, 3, 4, 99].map((failures) => delayAfter({ ...nothingHeard, failures }));
    expect(delays).toEqual([2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });
});

describe("poll", () => {
  let hidden = false;
  const states: Polled<number>[] = [];
  const tell = (state: Polled<number>) => states.push(state);
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
    const { stop } = poll(count, tell);
    await vi.advanceTimersByTimeAsync(4_100);
    stop();
    expect(states.map((state) => state.data)).toEqual([1, 2, 3]);
  });

  test("is silent once stopped", async () => {
    poll(count, tell).stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states).toEqual([]);
  });

  test("rests while the page is hidden and asks at once when it is seen again", async () => {
    const { stop } = poll(count, tell);
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
    const { stop } = poll(untilAborted, tell);
    becomes(true);
    await vi.advanceTimersByTimeAsync(60_000);
    stop();
    expect(states).toEqual([]);
  });

  test("loses patience with a server that never answers", async () => {
    const { stop } = poll(() => new Promise<number>(() => undefined), tell);
    await vi.advanceTimersByTimeAsync(10_000);
    stop();
    expect(states).toMatchObject([{ phase: "disconnected", problem: "no answer within 10 s" }]);
  });

  test("recovers by itself", async () => {
    let broken = true;
    const { stop } = poll(() => (broken ? Promise.reject(new ApiError("HTTP 503", 503)) : Promise.resolve(1)), tell);
    await vi.advanceTimersByTimeAsync(0);
    broken = false;
    await vi.advanceTimersByTimeAsync(4_000);
    stop();
    expect(states.map((state) => state.phase)).toEqual(["disconnected", "live"]);
  });

  test("asks only once when asked to hurry", async () => {
    const query = vi.fn(count);
    const { askNow, stop } = poll(query, tell);
    await vi.advanceTimersByTimeAsync(0);
    askNow();
    await vi.advanceTimersByTimeAsync(2_000);
    stop();
    expect(query).toHaveBeenCalledTimes(3);
  });
});
