import { afterEach, describe, expect, test, vi } from "vitest";

import { ApiError, fetchFindings, fetchLive } from "../src/api";
import { finding, live } from "./facts";

const answer = (body: BodyInit, status = 200) => {
  const fetching = vi.fn(() => Promise.resolve(new Response(body, { status })));
  vi.stubGlobal("fetch", fetching);
  return fetching;
};
const signal = new AbortController().signal;

afterEach(() => {
  vi.unstubAllGlobals();
});

describe("the query layer", () => {
  test("asks below the page's own address, with its cookie, and never from a cache", async () => {
    const fetching = answer(JSON.stringify(live()));
    expect(await fetchLive(signal)).toEqual(live());
    expect(fetching).toHaveBeenCalledWith(
      "api/v1/live",
      expect.objectContaining({ credentials: "same-origin", cache: "no-store" }),
    );
  });

  test("unwraps findings", async () => {
    answer(JSON.stringify({ findings: [finding()] }));
    expect(await fetchFindings(signal)).toEqual([finding()]);
  });

  test.each([
    ["{}", "api/v1/findings answered without findings"],
    ["null", "api/v1/findings answered without findings"],
    ["<!doctype html>", "api/v1/findings did not answer with JSON"],
  ])("does not take %s for an answer", async (body, problem) => {
    answer(body);
    await expect(fetchFindings(signal)).rejects.toThrow(problem);
  });

  test.each([
    [401, true],
    [404, true],
    [503, false],
  ])("takes HTTP %i for a refusal: %s", async (status, isRefusal) => {
    answer("", status);
    const error: unknown = await fetchLive(signal).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status, isRefusal });
  });

  test("says in its own words that nobody answers", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
    await expect(fetchLive(signal)).rejects.toThrow("the server does not answer");
  });
});
