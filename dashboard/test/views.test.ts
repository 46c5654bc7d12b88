import { describe, expect, test } from "vitest";

import type { Filters } from "../src/router";
import { perMinute, timesOf, told, topOf } from "../src/view/chart";
import { histogramRows, quantile } from "../src/view/histogram";
import { parseManual, inlineParts } from "../src/view/manual";
import { barHeights, number, percent, seconds } from "../src/view/numbers";
import { families, narrowed as narrowedRules } from "../src/view/rules";
import { narrowed, scopeRows, verdictParts, verdictsInWords } from "../src/view/scopes";
import { ariaSort, nextOrder, parseOrder, sorted } from "../src/view/sorting";
import { eventTone, eventWhen } from "../src/view/timeline";
import { NOW, received, rule, scope } from "./facts";

describe("sorting", () => {
  const columns = [{ title: "Age", sort: ({ age }: { age: number | null }) => age }];
  const facts = [{ age: 1 }, { age: null }, { age: 3 }];
  const ages = (order: string) => sorted(facts, columns, parseOrder(order)).map(({ age }) => age);

  test("puts what is not known last, whichever way", () => {
    expect([ages("Age"), ages("-Age")]).toEqual([
      [1, 3, null],
      [3, 1, null],
    ]);
  });

  test("leaves the order to the page where no such column sorts", () => {
    expect(ages("-Nonsense")).toEqual([1, null, 3]);
  });

  test("goes from most to least to none", () => {
    const first = nextOrder("Age", null);
    const second = nextOrder("Age", parseOrder(first));
    expect([first, second, nextOrder("Age", parseOrder(second))]).toEqual(["-Age", "Age", ""]);
  });

  test("is told to a screen reader", () => {
    expect(["-Age", "Age", "-Other", ""].map((order) => ariaSort("Age", parseOrder(order)))).toEqual([
      "descending",
      "ascending",
      "none",
      "none",
    ]);
  });
});

describe("numbers", () => {
  test.each([
    [null, "–"],
    [0, "0"],
    [1_234_567, "1,234,567"],
    [126.4, "126"],
    [12.5, "13"],
    [1.04, "1"],
    [0.083, "0.083"],
  ] as const)("%s is %s", (value, text) => {
    expect(number(value)).toBe(text);
  });

  test.each([
    [0, "0 %"],
    [0.0004, "<0.1 %"],
    [0.004, "0.4 %"],
    [0.31, "31 %"],
    [1, "100 %"],
  ])("a share of %s is %s", (share, text) => {
    expect(percent(share)).toBe(text);
  });

  test.each([
    [null, "–"],
    [0, "0 s"],
    [0.000_04, "40 µs"],
    [0.0021, "2.1 ms"],
    [0.421, "421 ms"],
    [0.4, "400 ms"],
    [2.04, "2.0 s"],
    [90, "1.5 min"],
    [5_400, "1.5 h"],
    [129_600, "1.5 d"],
  ])("%s seconds are %s", (value, text) => {
    expect(seconds(value)).toBe(text);
  });

  test("the smallest bar can still be seen, and nothing is nothing", () => {
    expect(barHeights([0, null, 1, 1000], 20)).toEqual([0, 0, 2.4, 20]);
    expect(barHeights([0, 0], 20)).toEqual([0, 0]);
  });
});

describe("histograms", () => {
  const histogram = { bounds: [0.01, 0.1, 1], counts: [0, 6, 3, 1], sum: 4 };

  test("show the ranges that occurred", () => {
    expect(histogramRows(histogram)).toEqual([
      { range: "≤ 100 ms", count: 6, share: 1 },
      { range: "≤ 1.0 s", count: 3, share: 0.5 },
      { range: "> 1.0 s", count: 1, share: 1 / 6 },
    ]);
  });

  test("of nothing have no rows and no quantile", () => {
    const nothing = { bounds: [1], counts: [0, 0], sum: 0 };
    expect([histogramRows(nothing), quantile(nothing, 0.95)]).toEqual([[], null]);
  });

  test("know below which bound a share lies, unless it is above all", () => {
    expect([quantile(histogram, 0.5), quantile(histogram, 0.9), quantile(histogram, 0.95)]).toEqual([0.1, 1, null]);
  });
});

describe("charts", () => {
  test("have a time for each point", () => {
    expect(timesOf(NOW, 10, 3).map((time) => time - Date.parse(NOW) / 1000)).toEqual([0, 10, 20]);
  });

  test("keep a gap a gap", () => {
    expect(perMinute([1, null, 0], 10)).toEqual([6, null, 0]);
  });

  test("show a limit only where what it limits can be seen beside it", () => {
    const top = (used: number, limit: number) =>
      topOf({
        times: [],
        end: 0,
        lines: [
          { name: "used", values: [used], style: "steps", colour: 0 },
          { name: "limit", values: [limit, null], style: "limit", colour: 0 },
        ],
      });
    expect([top(5, 15), top(4, 15)]).toEqual([15, 4]);
  });

  test("leave out the point in the making", () => {
    expect(told([1, null, 3])).toEqual([1, null]);
  });

  test("of nothing are not drawn along the top", () => {
    expect(topOf({ times: [], end: 0, lines: [{ name: "", values: [0, null], style: "steps", colour: 0 }] })).toBe(1);
  });
});

describe("a manual page", () => {
  const page = `A scope ended,
with a connection.

What it does
    Looks at \`\`Core\`\`
    connections.

Example
    ::

        conn = connect()

        return conn

    And text below.`;

  test("is a summary and sections of text and code", () => {
    expect(parseManual(page)).toEqual({
      summary: "A scope ended, with a connection.",
      sections: [
        { title: "What it does", blocks: [{ kind: "text", text: "Looks at ``Core`` connections." }] },
        {
          title: "Example",
          blocks: [
            { kind: "code", text: "conn = connect()\n\nreturn conn" },
            { kind: "text", text: "And text below." },
          ],
        },
      ],
    });
  });

  test("marks code within text", () => {
    expect(inlineParts("a ``b`` c")).toEqual(["a ", "b", " c"]);
  });
});

describe("scopes", () => {
  const rows = scopeRows(
    received(
      {
        now: NOW,
        store: { problem: null },
        sites: [],
        scopes: [
          scope(),
          scope({ scope: "import-stock", kind: "command", verdicts: { clean: 10, info: 0, warning: 0, error: 0 } }),
          scope({ scope: "POST /orders", lost_writes: 2 }),
        ],
      },
      0,
    ),
  );
  const names = (filters: Filters) => narrowed(rows, filters).map((row) => row.scope);

  test.each([
    [{}, ["GET /orders", "import-stock", "POST /orders"]],
    [{ q: "ORDERS" }, ["GET /orders", "POST /orders"]],
    [{ kind: "command" }, ["import-stock"]],
    [{ verdict: "clean" }, ["import-stock"]],
    [{ verdict: "bad", q: "post" }, ["POST /orders"]],
    [{ verdict: "lost" }, ["POST /orders"]],
  ])("are narrowed by %j", (filters, expected) => {
    expect(names(filters as Filters)).toEqual(expected);
  });

  test("tell their verdicts in words and in shares", () => {
    const { count, verdicts } = scope();
    expect(verdictsInWords(verdicts)).toBe("1 error, 1 warning, 8 clean");
    expect(verdictParts({ count, verdicts })).toEqual([
      { kind: "error", share: 0.1 },
      { kind: "warning", share: 0.1 },
    ]);
  });
});

describe("rules", () => {
  const rules = [
    rule(),
    rule({ code: "SW404", rule: "legacy-query", level: "info", enabled: false, findings: { open: 1, total: 2 } }),
    rule({ code: "XY001", rule: "our-own" }),
  ];

  test("are grouped by family, an application's own apart", () => {
    expect(families(rules).map(({ title }) => title)).toEqual([
      "Connections",
      "Misuse of the API",
      "Rules of this application",
    ]);
  });

  test.each([
    [{ q: "leaked" }, ["SW101"]],
    [{ q: "LOOKS", level: "info" }, ["SW404"]],
    [{ state: "off" }, ["SW404"]],
    [{ state: "on" }, ["SW101", "XY001"]],
    [{ state: "found" }, ["SW404"]],
  ])("are narrowed by %j", (filters, codes) => {
    expect(narrowedRules(rules, filters as Filters).map(({ code }) => code)).toEqual(codes);
  });
});

test("events are told by what they mean, and when they were, where that is known", () => {
  expect(["failed", "committed", "began"].map((event) => eventTone({ event }))).toEqual(["bad", "good", "plain"]);
  expect([eventWhen({ seconds: 0.21 }), eventWhen({ seconds: null })]).toEqual(["+210 ms", ""]);
});
