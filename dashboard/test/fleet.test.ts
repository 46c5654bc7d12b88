import { describe, expect, test } from "vitest";

import type { FleetWorker } from "../src/shapes";
import { costOf, fleetTotals } from "../src/view/fleet";

const worker = (parts: Partial<FleetWorker> = {}): FleetWorker => ({
  host: "web-1",
  pid: 4711,
  live: true,
  started_at: "2026-05-04T09:50:00Z",
  seen_at: "2026-05-04T10:00:00Z",
  version: "1.0",
  python: "3.13.1",
  sqlalchemy: "2.1.0",
  flask: "3.1.0",
  dropped: 0,
  internal_errors: 0,
  watching: true,
  self_seconds: 6,
  cpu_seconds: 300,
  findings: 0,
  ...parts,
});

describe("The cost of the watch", () => {
  test("is its share of a core since the process began, and of what that computes", () => {
    expect(costOf([worker()])).toEqual({ seconds: 6, ofCore: 0.01, ofWork: 0.02 });
  });

  test("is no share of the work of an idle process, which computes little but the watch", () => {
    expect(costOf([worker({ cpu_seconds: 45 })])).toEqual({ seconds: 6, ofCore: 0.01, ofWork: null });
  });

  test("of several processes is that of one of them, on average", () => {
    expect(costOf([worker(), worker({ self_seconds: 18, cpu_seconds: 500 })])).toEqual({
      seconds: 24,
      ofCore: 0.02,
      ofWork: 0.03,
    });
  });

  test("is not known of a process that has only begun, nor without any", () => {
    expect(costOf([worker({ started_at: "2026-05-04T10:00:00Z" })]).ofCore).toBeNull();
    expect(costOf([])).toEqual({ seconds: 0, ofCore: null, ofWork: null });
  });

  test("of the fleet leaves out who is heard no more", () => {
    expect(fleetTotals([worker(), worker({ live: false, self_seconds: 100 })]).cost.seconds).toBe(6);
  });
});
