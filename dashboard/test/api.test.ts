import { afterEach, describe, expect, test, vi } from "vitest";

import { ApiError, fetchFinding, fetchFindings, fetchFleet, fetchLive, fetchScopes, Missing } from "../src/api";
import { findings, live } from "./facts";

const signal = new AbortController().signal;
const noFilters = new URLSearchParams();

const answer = (body: BodyInit | null, status = 200, headers: Record<string, string> = {}) => {
  const fetching = vi.fn<(path: string, options: RequestInit) => Promise<Response>>(() =>
    Promise.resolve(new Response(body, { status, headers })),
  );
  vi.stubGlobal("fetch", fetching);
  return fetching;
};

const etagOf = (fetching: ReturnType<typeof answer>) =>
  new Headers(fetching.mock.lastCall?.[1].headers).get("If-None-Match");

afterEach(() => {
  vi.unstubAllGlobals();
});

describe("the query layer", () => {
  test("asks below the page's own address, with its cookie, and never from a cache", async () => {
    const fetching = answer(JSON.stringify(live()));
    expect(await fetchLive(signal)).toMatchObject(live());
    expect(fetching).toHaveBeenCalledWith(
      "api/v1/live?stacks=false",
      expect.objectContaining({ credentials: "same-origin", cache: "no-store" }),
    );
  });

  test("passes filters on as they are, and wants no stacks in a list", async () => {
    const fetching = answer(JSON.stringify(findings()));
    await fetchFindings(new URLSearchParams({ q: "a&b=c" }), signal);
    expect(fetching.mock.lastCall?.[0]).toBe("api/v1/findings?q=a%26b%3Dc&brief=true");
  });

  test.each([
    ["{}", "api/v1/findings answered without findings"],
    ["null", "api/v1/findings answered without findings"],
    ["<!doctype html>", "api/v1/findings did not answer with JSON"],
  ])("does not take %s for an answer", async (body, problem) => {
    answer(body);
    await expect(fetchFindings(noFilters, signal)).rejects.toThrow(problem);
  });

  test.each([
    [401, true],
    [404, true],
    [429, true],
    [503, false],
  ])("takes HTTP %i for a refusal: %s", async (status, isRefusal) => {
    answer("", status);
    const error: unknown = await fetchLive(signal).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status, isRefusal });
  });

  test("is told how long to wait", async () => {
    answer("", 429, { "Retry-After": "17" });
    await expect(fetchLive(signal)).rejects.toMatchObject({ waitSeconds: 17 });
  });

  test("says in its own words that nobody answers", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
    await expect(fetchLive(signal)).rejects.toThrow("the server does not answer");
  });

  test("tells a finding that is not there from a refusal", async () => {
    const fetching = answer("{}", 404);
    await expect(fetchFinding("a/b", signal)).rejects.toThrow(Missing);
    expect(fetching.mock.lastCall?.[0]).toBe("api/v1/findings/a%2Fb");
  });
});

describe("an answer that has not changed", () => {
  const scopes = JSON.stringify({ scopes: [], sites: [] });

  test("is not sent again, and is the same with its age", async () => {
    answer(scopes, 200, { ETag: 'W/"1"' });
    const first = await fetchScopes(signal);
    const fetching = answer(null, 304);
    expect(await fetchScopes(signal)).toBe(first);
    expect(etagOf(fetching)).toBe('W/"1"');
  });

  test("is forgotten by who is refused", async () => {
    answer(scopes, 200, { ETag: 'W/"1"' });
    await fetchScopes(signal);
    const fetching = answer("", 401);
    await fetchScopes(signal).catch(() => undefined);
    await fetchScopes(signal).catch(() => undefined);
    expect(etagOf(fetching)).toBeNull();
  });

  test("is asked for in full where only the time matters", async () => {
    const fetching = answer(JSON.stringify({ workers: [] }), 200, { ETag: 'W/"1"' });
    await fetchFleet(signal);
    await fetchFleet(signal);
    expect(etagOf(fetching)).toBeNull();
  });
});
