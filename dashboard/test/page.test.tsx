import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { App } from "../src/app";
import { checkout, engine, finding, findings, frame, live, oneFinding, rule, series, session } from "./facts";

vi.mock("../src/components/time-chart", () => ({ TimeChart: () => null }));

const HOSTILE = "<img src=x onerror=alert(1)>";
let root: HTMLElement;
let answers: Record<string, unknown>;
let status = 200;

const serve = (picture: unknown, found: unknown = findings(), other: Record<string, unknown> = {}) => {
  answers = { live: picture, findings: found, series: series(), rules: { rules: [rule()] }, ...other };
};

const fetching = (path: string) => {
  const body = answers[decodeURIComponent(path.replace("api/v1/", "").replace(/\?.*/, ""))];
  return Promise.resolve(new Response(JSON.stringify(body ?? {}), { status: body === undefined ? 404 : status }));
};

const pass = (milliseconds: number) => act(() => vi.advanceTimersByTimeAsync(milliseconds).then(() => undefined));

const open = async (address = "#now") => {
  location.hash = address;
  await act(() => {
    render(<App />, root);
  });
  await pass(50);
};

const text = () => root.textContent.replace(/\s+/g, " ");
const press = async (name: string) => {
  await act(() => root.querySelector<HTMLElement>(`button[aria-label^="${name}"]`)?.click());
  await pass(10);
};

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", fetching);
  vi.stubGlobal("scrollTo", () => undefined);
  status = 200;
  root = document.body.appendChild(document.createElement("div"));
});

afterEach(() => {
  render(null, root);
  root.remove();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe("the page of now", () => {
  test("says in every section that an application is at rest", async () => {
    serve(live());
    await open();
    for (const words of [
      "Nothing has used a database yet.",
      "No engine has been seen yet",
      "No connection is checked out",
      "Nothing open has been found",
      "No worker has reported yet",
    ])
      expect(text()).toContain(words);
  });

  test("names the guilty line, what to do about it, and where the evidence is", async () => {
    serve(live({ checkouts: [checkout({ leaked: true, session: false })] }), findings([finding()]));
    await open();
    const verdict = root.querySelector(".verdict");
    expect(verdict?.textContent).toContain("1 connection has leaked.");
    expect(verdict?.textContent).toContain("/srv/shop/orders.py:42 in list_orders");
    expect(verdict?.textContent).toContain(rule().hint);
    expect(verdict?.querySelector("a")?.getAttribute("href")).toBe("#findings/abc");
  });

  test("opens a holder's row to both of its stacks, and closes it again", async () => {
    const row = checkout({ leaked: true });
    const stacks = { stack: [frame("pool", false), frame("orders", true)], now: [frame("payment", true)], sources: [] };
    serve(live({ checkouts: [row] }), findings(), { [`checkouts/${row.id}`]: { held: { ...row, ...stacks } } });
    await open();
    await press("Stacks of");
    expect([...root.querySelectorAll("h3")].map((heading) => heading.textContent)).toEqual(
      expect.arrayContaining(["Checked out at", "Now at"]),
    );
    expect(root.querySelector(".frames.application")?.textContent).toContain("/srv/orders.py:1 in orders");
    await press("Stacks of");
    expect(root.querySelector(".stack")).toBeNull();
  });

  test("keeps a row open, marked, when its connection is returned", async () => {
    serve(live({ checkouts: [checkout()] }));
    await open();
    await press("Stacks of");
    serve(live());
    await pass(2_000);
    expect(root.querySelector("tbody.gone")?.textContent).toContain("returned");
    await press("Stacks of");
    expect(root.querySelector("tbody.gone")).toBeNull();
  });

  test("lets ages go on between answers, and stop when the server is no longer heard", async () => {
    serve(live({ now: "2026-05-04T10:00:06Z", checkouts: [checkout()] }));
    await open();
    await pass(1_000);
    expect(root.querySelector("td .age")?.textContent).toBe("8 s");
    status = 503;
    await pass(1_100);
    const frozen = root.querySelector("td .age")?.textContent;
    await pass(20_000);
    expect(root.querySelector("td .age")?.textContent).toBe(frozen);
    expect(text()).toMatch(/last heard 2\d s ago: api\/v1\/\w+ answered HTTP 503/);
  });

  test("says that only one process is shown while the store is away", async () => {
    serve(live({ store: { problem: "disk I/O error" } }));
    await open();
    expect(root.querySelector(".store-problem")?.textContent).toContain("no other: disk I/O error");
  });

  test("shows many rows only when asked to, and not all at once", async () => {
    serve(live({ checkouts: Array.from({ length: 500 }, (_none, id) => checkout({ id: String(id) })) }));
    await open();
    expect(root.querySelectorAll("tbody")).toHaveLength(10);
    await act(() => root.querySelector<HTMLElement>("button.more")?.click());
    expect(root.querySelectorAll("tbody")).toHaveLength(110);
  });
});

describe("a finding's page", () => {
  const whole = oneFinding({
    fingerprint: "a/b",
    stack: [frame("pool", false), frame("orders", true)],
    sources: [{ ...frame("orders", true), first_lineno: 1, lines: ["conn = connect()"] }],
    site: frame("orders", true),
    details: { tables: ["cart"] },
    timeline: [{ event: "began", seconds: 0, at: null, site: null, text: "by autobegin" }],
    page: "A scope ended.\n\nInstead\n    Close it.",
  });

  test("has the sentence, the line, the facts, the timeline, the repair and the manual", async () => {
    serve(live(), findings(), { "findings/a/b": whole });
    await open("#findings/a%2Fb");
    for (const words of [
      whole.message,
      whole.hint,
      "tablescart",
      "began by autobegin",
      "Instead",
      whole.ignore,
      "flask sessionwatch explain SW101",
    ])
      expect(text()).toContain(words);
    expect(root.querySelector("mark")?.textContent).toBe("conn = connect()");
    expect(root.querySelector("time")?.title).toBe("2026-05-04 09:00:00 UTC");
  });

  test("folds library frames, unless there is nothing else to read", async () => {
    serve(live(), findings(), { "findings/abc": oneFinding({ stack: [frame("pool", false)] }) });
    await open("#findings/abc");
    expect([...root.querySelectorAll("details")].map((folded) => folded.open)).toEqual([true]);
  });

  test("that is not there says so, and is no refusal", async () => {
    serve(live());
    await open("#findings/nothing");
    expect(text()).toContain("Nothing is kept under this address");
    expect(text()).not.toContain("Log in");
  });
});

test("what the server sends is text, never markup", async () => {
  const hostile = {
    scope: HOSTILE,
    scope_kind: HOSTILE,
    thread: HOSTILE,
    host: HOSTILE,
    site: { filename: HOSTILE, lineno: 1, function: HOSTILE },
  };
  serve(
    live({
      engines: [engine({ name: HOSTILE, dialect: HOSTILE })],
      checkouts: [checkout({ ...hostile, engine: HOSTILE, doing: HOSTILE, leaked: true, session: false })],
      sessions: [session(hostile)],
      store: { problem: HOSTILE },
    }),
    findings([finding({ ...hostile, rule: HOSTILE, message: HOSTILE, fingerprint: HOSTILE })]),
  );
  await open();
  expect(root.querySelector("img")).toBeNull();
  expect(text().split(HOSTILE).length).toBeGreaterThan(12);
});

test("who is refused sees a way in that leads back, and nothing of what was shown before", async () => {
  serve(live({ checkouts: [checkout()] }));
  await open("#now?span=1h");
  status = 401;
  await pass(2_000);
  expect(root.querySelector(".notice a")?.getAttribute("href")).toBe("login#now?span=1h");
  expect(text()).not.toContain("list_orders");
});

test("a server that has never answered is told from one that fell silent", async () => {
  status = 503;
  serve(live());
  await open();
  expect(text()).toContain("No answer yet");
  expect(text()).toContain("never heard");
});

test("an address that nobody knows leads to the first page", async () => {
  serve(live());
  await open("#nonsense/there?x=y");
  expect(root.querySelector("[aria-current]")?.textContent).toBe("Now");
});
