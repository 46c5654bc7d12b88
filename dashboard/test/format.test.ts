import { describe, expect, test } from "vitest";

import {
  breakable,
  counted,
  duration,
  exactDuration,
  roughDuration,
  shortPath,
  shortSite,
  sinceOf,
  utc,
} from "../src/view/format";

describe("duration", () => {
  test.each([
    [null, "–"],
    [-1, "0 s"],
    [0.9, "0 s"],
    [59.99, "59 s"],
    [60, "1 min 00 s"],
    [3599, "59 min 59 s"],
    [3600, "1 h 00 min"],
    [86_399, "23 h 59 min"],
    [90_000, "1 d 01 h"],
  ])("%s seconds is %s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
});

describe("sinceOf", () => {
  const answer = { now: "2026-05-04T10:00:00Z", receivedAt: 50_000 };

  test("is on the reader's clock, whatever the server's says", () => {
    expect(sinceOf(answer, "2026-05-04T11:59:58.5+02:00")).toBe(48_500);
  });

  test("of no time is an unknown age", () => {
    expect(duration((60_000 - sinceOf(answer, "yesterday")) / 1000)).toBe("–");
  });
});

test.each([
  [4, "4 s"],
  [61, "1 min"],
  [7_300, "2 h"],
])("%s seconds is roughly %s", (seconds, text) => {
  expect(roughDuration(seconds)).toBe(text);
});

describe("paths", () => {
  test.each([
    ["/srv/shop/shop/views/orders.py", "…/shop/views/orders.py"],
    ["C:\\work\\shop\\views\\orders.py", "…/shop/views/orders.py"],
    ["/app/orders.py", "/app/orders.py"],
    ["<string>", "<string>"],
  ])("%s is shown as %s", (whole, short) => {
    expect(shortPath(whole)).toBe(short);
  });

  test("a site names line and function", () => {
    expect(shortSite({ filename: "/srv/a/b/c.py", lineno: 7, function: "f" })).toBe("…/a/b/c.py:7 in f");
  });
});

test("absolute times are UTC whatever their offset", () => {
  expect(utc("2026-05-04T12:00:00+02:00")).toBe("2026-05-04 10:00:00 UTC");
});

test("a time that is none is shown as it came", () => {
  expect(utc("soon")).toBe("soon");
});

test.each([
  [1, "1 error"],
  [0, "0 errors"],
])("%i is counted as %s", (count, text) => {
  expect(counted(count, "error")).toBe(text);
});

test.each([
  [-1, "0 ms"],
  [0.0304, "30 ms"],
  [1, "1.0 s"],
  [59.99, "59.9 s"],
  [61, "1 min 01 s"],
])("what took %s seconds took %s", (seconds, text) => {
  expect(exactDuration(seconds)).toBe(text);
});

test.each([
  ["ThreadPoolExecutor-0_3", "Thread|Pool|Executor-|0_3"],
  ["GET /orders/<int:id>/tracking", "GET /orders/|<int:id>/|tracking"],
  ["…/shop/site_settings.py", "…/shop/|site_settings.py"],
  ["/srv/shop", "/srv/|shop"],
  ["", ""],
])("%s may be broken as %s", (name, parts) => {
  expect(breakable(name).join("|")).toBe(parts);
});
