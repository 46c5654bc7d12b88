import { describe, expect, test } from "vitest";

import { coverage } from "../src/view/coverage";
import { engineUses, holders, sessionState, sessionsToTell, usageInWords } from "../src/view/live";
import { checkout, engine, live, received, session } from "./facts";

test("a holder's age is counted on the reader's clock", () => {
  const [row] = holders(received(live({ checkouts: [checkout()] }), 10_000));
  expect([row?.key, row?.began]).toEqual(["web-1/4711/1", 8_500]);
});

describe("sessions", () => {
  test("that own a connection are left to the holders, unless they leaked", () => {
    const sessions = [
      session({ id: "1", checkouts: 1 }),
      session({ id: "2" }),
      session({ id: "3", checkouts: 1, leaked: true }),
    ];
    expect(sessionsToTell(received(live({ sessions }))).map((row) => row.id)).toEqual(["2", "3"]);
  });

  test.each([
    [0, "reads only"],
    [2, "uncommitted changes"],
  ])("with %s writes are in the state %s", (writes, state) => {
    expect(sessionState(session({ writes }))).toBe(state);
  });
});

describe("the use of an engine", () => {
  const use = (...engines: ReturnType<typeof engine>[]) => engineUses(live({ engines }))[0];

  test("is that of its pools in all workers", () => {
    const both = use(engine({ oldest_age_seconds: null }), engine({ pid: 2, used: 9, waiting: 1, oldest_age_seconds: 7 }));
    expect(both).toMatchObject({ used: 12, max: 30, idle: 4, waiting: 1, oldest: 7, workers: 2 });
  });

  test("is alarming when one worker's pool is full, however empty the others are", () => {
    expect(use(engine({ used: 0 }), engine({ pid: 2, used: 15 }))?.alarm).toBe("full");
  });

  test("shares the bar between used and idle", () => {
    expect(use(engine({ used: 3, idle: 6, max: 15 }))).toMatchObject({ usedShare: 20, idleShare: 40 });
  });

  test("never draws more than the whole bar", () => {
    expect(use(engine({ used: 20, idle: 5, max: 15 }))).toMatchObject({ usedShare: 100, idleShare: 0 });
  });

  test("has no limit when one of its pools has none", () => {
    expect(use(engine(), engine({ pid: 2, max: null }))?.max).toBeNull();
  });

  test("of an unused pool without limit is an empty bar", () => {
    expect(use(engine({ used: 0, idle: 0, size: null, max: null }))?.usedShare).toBe(0);
  });

  test.each([
    [11, 0, 15, "none"],
    [12, 0, 15, "near"],
    [15, 0, 15, "full"],
    [3, 1, 15, "full"],
    [1, 0, 1, "none"],
  ])("%i used and %i waiting of %i is %s", (used, waiting, max, alarm) => {
    expect(use(engine({ used, waiting, max }))?.alarm).toBe(alarm);
  });

  test("is told in words", () => {
    expect(usageInWords(engineUses(live({ engines: [engine()] })))).toBe(
      "Connections in use over time; now: default 3 of 15, oldest 1 s.",
    );
  });
});

describe("what the page shows", () => {
  const worker = { host: "web-1", pid: 1, started_at: "", seen_at: "", version: null };

  test.each([
    [[], 0, "No worker has reported yet."],
    [[worker], 0, "Told by 1 worker on 1 host."],
    [[worker, { ...worker, pid: 2 }], 3, "Told by 2 workers on 1 host. 3 of the youngest check-outs and sessions are left out."],
  ])("is said of %j", (workers, checkouts, words) => {
    expect(coverage(live({ workers, omitted: { checkouts, sessions: 0 } }))).toBe(words);
  });
});
