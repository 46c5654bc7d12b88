import { describe, expect, test } from "vitest";

import type { Filters } from "../src/router";
import { explainCommand, findingRows, findingsQuery, recentInWords } from "../src/view/findings";
import { finding, findings, received } from "./facts";

test("when a finding was seen is told on the reader's clock", () => {
  const [row] = findingRows(received(findings([finding({ last_seen: "2026-05-04T11:59:00+02:00" })]), 100_000));
  expect([row?.key, row?.lastSeen]).toEqual(["abc", 40_000]);
});

describe("the query", () => {
  test("has what the address has, in the words of the API", () => {
    const query = findingsQuery({ level: "error", scope: "GET /a?b=c&d", state: "open", sort: "-Count", limit: "200" });
    expect(Object.fromEntries(query)).toEqual({
      level: "error",
      scope: "GET /a?b=c&d",
      resolved: "false",
      known: "false",
      sort: "-count",
      limit: "200",
    });
  });

  test("asks for the latest where the address says nothing", () => {
    expect(Object.fromEntries(findingsQuery({}))).toEqual({ known: "false", sort: "-last_seen", limit: "50" });
  });

  test.each([
    [{ state: "resolved" }, "resolved", "true"],
    [{ state: "baseline" }, "known", "true"],
    [{ sort: "Level" }, "sort", "level"],
    [{ sort: "-Nonsense" }, "sort", "-last_seen"],
    [{ limit: "1000000" }, "limit", "500"],
    [{ limit: "-1" }, "limit", "50"],
    [{ limit: "all" }, "limit", "50"],
  ])("of %j has %s=%s", (filters, name, value) => {
    expect(findingsQuery(filters as Filters).get(name)).toBe(value);
  });

  test("leaves out what is none of its filters", () => {
    expect(findingsQuery({ evil: "1" }).has("evil")).toBe(false);
  });
});

test("each finding names the command that explains it", () => {
  expect(explainCommand(finding({ code: "SW204" }))).toBe("flask sessionwatch explain SW204");
});

test.each([
  [[0, 0], "not seen in the last hour"],
  [[0, 1], "seen 1 time in the last hour"],
  [[2, 1], "seen 3 times in the last hour"],
])("the bars %j are told as %s", (recent, words) => {
  expect(recentInWords(recent)).toBe(words);
});
