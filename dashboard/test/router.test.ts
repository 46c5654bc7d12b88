import { describe, expect, test } from "vitest";

import { addressOf, parseRoute } from "../src/router";

describe("addresses", () => {
  test.each([
    ["", [], {}],
    ["#", [], {}],
    ["#now", ["now"], {}],
    ["#/findings/", ["findings"], {}],
    ["#findings?level=error&q=a%26b", ["findings"], { level: "error", q: "a&b" }],
    ["#findings/a%2Fb", ["findings", "a/b"], {}],
    ["#findings/%", ["findings", "%"], {}],
  ])("%s is read", (hash, path, filters) => {
    expect(parseRoute(hash)).toEqual({ path, filters });
  });

  test("come back as they were written", () => {
    const filters = { scope: "GET /orders/<int:id>?a=b&c#d", q: "ä+ %" };
    expect(parseRoute(addressOf(["findings", "a/b?c"], filters))).toEqual({ path: ["findings", "a/b?c"], filters });
  });

  test("leave out what is empty", () => {
    expect(addressOf(["findings"], { level: "", q: "x" })).toBe("#findings?q=x");
  });
});
