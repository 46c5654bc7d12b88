import { describe, expect, test } from "vitest";

import { verdict } from "../src/view/verdict";
import { checkout, engine, finding, live, session, site } from "./facts";

const leak = (parts: Parameters<typeof checkout>[0] = {}) => checkout({ leaked: true, session: false, ...parts });

describe("at a glance", () => {
  test("an application at rest has nothing to tell", () => {
    expect(verdict(live(), [])).toMatchObject({ tone: "ok", fact: "Nothing has used a database yet.", guilty: null });
    expect(verdict(live({ engines: [engine()] }), []).fact).toBe("Nothing leaks, and no connection is held.");
  });

  test("work is no leak", () => {
    expect(verdict(live({ engines: [engine()], checkouts: [checkout()] }), [])).toMatchObject({
      tone: "ok",
      fact: "Nothing leaks. 1 connection is at work.",
    });
  });

  test("the guilty line is the one that leaked most, with its oldest holder", () => {
    const checkouts = [
      leak({ id: "1", site: site("carts") }),
      leak({ id: "2", age_seconds: 3 }),
      leak({ id: "3", age_seconds: 9 }),
      checkout({ id: "4", site: site("healthy") }),
    ];
    expect(verdict(live({ checkouts }), [])).toMatchObject({
      tone: "error",
      fact: "3 connections have leaked.",
      guilty: { site: site("orders"), held: 2, of: 3, oldest: { id: "3" }, finding: null },
    });
  });

  test("a leaked session is told once, with or without its connection", () => {
    const checkouts = [checkout({ leaked: true, session_id: "s1" })];
    const sessions = [session({ id: "s1", leaked: true, checkouts: 1 }), session({ id: "s2", leaked: true })];
    expect(verdict(live({ checkouts, sessions }), [])).toMatchObject({
      fact: "2 sessions have leaked.",
      guilty: { held: 2, of: 2 },
    });
  });

  test("the worst finding of the same line and scope is the evidence", () => {
    const findings = [
      finding({ fingerprint: "elsewhere", site: site("carts") }),
      finding({ fingerprint: "other scope", scope: "GET /other" }),
      finding({ fingerprint: "consequence", code: "SW103", level: "info" }),
      finding({ fingerprint: "this" }),
    ];
    expect(verdict(live({ checkouts: [leak()] }), findings).guilty?.finding?.fingerprint).toBe("this");
  });

  test("a full pool names who holds it", () => {
    const picture = live({
      engines: [engine({ used: 15, waiting: 2 }), engine({ name: "search", used: 12 })],
      checkouts: [checkout(), checkout({ id: "2", engine: "search", site: site("search") })],
    });
    expect(verdict(picture, [])).toMatchObject({
      tone: "error",
      fact: "The pool of 'default' is full: 15 of 15 held, and 2 threads wait.",
      guilty: { site: site("orders"), held: 1, of: 1 },
    });
  });

  test("a pool that fills up is a warning", () => {
    expect(verdict(live({ engines: [engine({ used: 12 }), engine({ pid: 2, used: 0 })] }), [])).toMatchObject({
      tone: "warning",
      fact: "The pool of 'default' is nearly full in one of its workers: 12 of 30 held.",
    });
  });

  test("holders without a line of the application have no guilty one", () => {
    expect(verdict(live({ checkouts: [leak({ site: null })] }), []).guilty).toBeNull();
  });
});
