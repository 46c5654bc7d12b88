import { describe, expect, test } from "vitest";

import { shownRows, toggled } from "../src/view/opened";
import { groupFrames } from "../src/view/stack";
import { frame } from "./facts";

const row = (key: string) => ({ key });

describe("opened rows", () => {
  test("open and close again", () => {
    const opened = toggled(new Map(), row("a"));
    expect([[...opened.keys()], [...toggled(opened, row("a")).keys()]]).toEqual([["a"], []]);
  });

  test("stay for their reader when their subject has gone", () => {
    const opened = toggled(new Map(), row("a"));
    expect(shownRows([row("b")], [row("b")], opened)).toEqual([
      { row: row("b"), open: false, gone: false },
      { row: row("a"), open: true, gone: true },
    ]);
  });

  test("are not gone when there is only no room for them", () => {
    const opened = toggled(new Map(), row("b"));
    expect(shownRows([row("a")], [row("a"), row("b")], opened)).toEqual([{ row: row("a"), open: false, gone: false }]);
  });

  test("show what is so now, not what was so when they were opened", () => {
    const opened = toggled(new Map(), { key: "a", age: 1 });
    const now = [{ key: "a", age: 2 }];
    expect(shownRows(now, now, opened)).toEqual([{ row: { key: "a", age: 2 }, open: true, gone: false }]);
  });
});

test("consecutive frames of one kind are one group", () => {
  const stack = [frame("pool", false), frame("session", false), frame("orders", true), frame("flask", false)];
  expect(groupFrames(stack).map(({ application, frames }) => [application, frames.length])).toEqual([
    [false, 2],
    [true, 1],
    [false, 1],
  ]);
});
