import { describe, expect, test } from "vitest";

import { headline, holders, poolUse, sessionState, sessionsToTell, usageInWords, workers } from "../src/view/live";
import { checkout, engine, live, session } from "./facts";

describe("holders", () => {
  test("come the oldest first, those of unknown age last", () => {
    const rows = holders(
      live({
        checkouts: [
          checkout({ id: 1, age_seconds: null }),
          checkout({ id: 2, age_seconds: 1 }),
          checkout({ id: 3, age_seconds: 9 }),
        ],
      }),
    );
    expect(rows.map((row) => row.id)).toEqual([3, 2, 1]);
  });

  test("of two processes differ although their ids are the same", () => {
    const [one, other] = holders(live({ checkouts: [checkout({ pid: 1 }), checkout({ pid: 2 })] }));
    expect(one?.key).not.toBe(other?.key);
  });
});

describe("headline", () => {
  test("counts leaks of both kinds and names the oldest holder", () => {
    const picture = live({
      checkouts: [checkout({ id: 1, leaked: true, session: false }), checkout({ id: 2, age_seconds: 80 })],
      sessions: [session({ leaked: true }), session({ checkouts: 1 })],
    });
    expect(headline(picture)).toMatchObject({
      sessions: 2,
      sessionsWithoutConnection: 1,
      leakedCheckouts: 1,
      leakedSessions: 1,
      oldest: { id: 2 },
    });
  });

  test("has no oldest holder when nothing is checked out", () => {
    expect(headline(live()).oldest).toBeNull();
  });
});

describe("sessions", () => {
  test("that own a connection are left to the holders, unless they leaked", () => {
    const sessions = [
      session({ id: 1, checkouts: 1 }),
      session({ id: 2 }),
      session({ id: 3, checkouts: 1, leaked: true }),
    ];
    expect(sessionsToTell(live({ sessions })).map((row) => row.id)).toEqual([2, 3]);
  });

  test.each([
    [null, "–"],
    [0, "reads only"],
    [2, "uncommitted changes"],
  ])("with %s writes are in the state %s", (writes, state) => {
    expect(sessionState(session({ writes }))).toBe(state);
  });
});

describe("poolUse", () => {
  test("shares the bar between used and idle", () => {
    expect(poolUse(engine({ used: 3, idle: 6, max: 15 }))).toMatchObject({
      text: "3 of 15",
      usedShare: 20,
      idleShare: 40,
    });
  });

  test("never draws more than the whole bar", () => {
    expect(poolUse(engine({ used: 20, idle: 5, max: 15 }))).toMatchObject({ usedShare: 100, idleShare: 0 });
  });

  test("leaves out what a pool does not tell", () => {
    const use = poolUse(engine({ used: 2, idle: null, waiting: null, size: null, max: null }));
    expect(use).toMatchObject({ text: "2", rest: "", usedShare: 100, alarm: "none" });
  });

  test("an unused pool without limit has an empty bar", () => {
    expect(poolUse(engine({ used: 0, idle: null, size: null, max: null })).usedShare).toBe(0);
  });

  test.each([
    [11, 0, "none"],
    [12, 0, "near"],
    [15, 0, "full"],
    [3, 1, "full"],
  ])("%i used and %i waiting of 15 is %s", (used, waiting, alarm) => {
    expect(poolUse(engine({ used, waiting })).alarm).toBe(alarm);
  });
});

describe("workers", () => {
  const worker = { host: "web-1", pid: 2, started_at: null, seen_at: "2026-05-04T09:59:59Z", version: null };

  test("are in the order of host and pid", () => {
    const rows = workers(live({ workers: [worker, { ...worker, pid: 1 }, { ...worker, host: "app-9" }] }));
    expect(rows.map(({ host, pid }) => [host, pid])).toEqual([
      ["app-9", 2],
      ["web-1", 1],
      ["web-1", 2],
    ]);
  });

  test.each([
    ["2026-05-04T09:59:59Z", false],
    ["2026-05-04T09:59:00Z", true],
    [null, true],
  ])("last heard at %s is silent: %s", (seen_at, silent) => {
    expect(workers(live({ workers: [{ ...worker, seen_at }] }))[0]?.silent).toBe(silent);
  });
});

test("the chart is told in words", () => {
  expect(usageInWords([engine()])).toBe("Connections used over time; now: default 3 of 15, oldest 1 s.");
});
