import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { nowPage } from "../src/pages/now";
import { checkout, engine, finding, frame, live, session } from "./facts";

vi.mock("../src/components/usage-chart", () => ({ UsageChart: () => null }));

const HOSTILE = "<img src=x onerror=alert(1)>";
let root: HTMLElement;
let answers: Record<string, { status: number; body: unknown }>;

const serve = (picture: unknown, findings: unknown[] = [], status = 200) => {
  answers = { "api/v1/live": { status, body: picture }, "api/v1/findings": { status, body: { findings } } };
};

const fetching = (path: string) => {
  const answer = answers[path] ?? { status: 404, body: null };
  return Promise.resolve({
    ok: answer.status === 200,
    status: answer.status,
    json: () => Promise.resolve(answer.body),
  });
};

const pass = (milliseconds: number) => act(() => vi.advanceTimersByTimeAsync(milliseconds).then(() => undefined));

const open = async () => {
  await act(() => {
    render(<nowPage.Screen />, root);
  });
  await pass(50);
};

const text = () => root.textContent.replace(/\s+/g, " ");
const press = (name: string) => act(() => root.querySelector<HTMLElement>(`button[aria-label^="${name}"]`)?.click());

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", fetching);
  root = document.body.appendChild(document.createElement("div"));
});

afterEach(() => {
  render(null, root);
  root.remove();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test("an application at rest is told so in every section", async () => {
  serve(live());
  await open();
  for (const words of [
    "No engine has been seen yet",
    "No connection is checked out",
    "Nothing has been found",
    "No worker has reported yet",
  ])
    expect(text()).toContain(words);
});

test("a holder's row opens to both of its stacks and closes again", async () => {
  serve(
    live({
      engines: [engine()],
      checkouts: [
        checkout({ leaked: true, stack: [frame("pool", false), frame("orders", true)], now: [frame("payment", true)] }),
      ],
    }),
  );
  await open();
  await press("Stacks of");
  expect([...root.querySelectorAll("h3")].map((heading) => heading.textContent)).toEqual(
    expect.arrayContaining(["Checked out at", "Now at"]),
  );
  expect(root.querySelector(".frames.application")?.textContent).toContain("/srv/orders.py:1 in orders");
  await press("Stacks of");
  expect(root.querySelector(".stack")).toBeNull();
});

test("a row stays open, marked, when its connection is returned", async () => {
  serve(live({ checkouts: [checkout()] }));
  await open();
  await press("Stacks of");
  serve(live());
  await pass(2_000);
  expect(root.querySelector("tbody.gone")?.textContent).toContain("returned");
  await press("Stacks of");
  expect(root.querySelector("tbody.gone")).toBeNull();
});

test("ages go on between answers and stop when the server is no longer heard", async () => {
  serve(live({ checkouts: [checkout({ age_seconds: 7.5 })] }));
  await open();
  await pass(1_000);
  expect(root.querySelector("td .age")?.textContent).toBe("8 s");
  serve(null, [], 503);
  await pass(1_100);
  const frozen = root.querySelector("td .age")?.textContent;
  await pass(20_000);
  expect(root.querySelector("td .age")?.textContent).toBe(frozen);
  expect(text()).toMatch(/last heard 2\d s ago: api\/v1\/live answered HTTP 503/);
});

test("a finding's row opens to hint, command and details", async () => {
  serve(live(), [finding({ details: { tables: ["cart"] } })]);
  await open();
  await press("Hint and stack");
  expect(text()).toContain("Use 'with Session(...)'.");
  expect(text()).toContain("flask sessionwatch explain SW101");
  expect(text()).toContain("tablescart");
  expect(root.querySelector("time")?.title).toBe("2026-05-04 09:00:00 UTC");
});

test("what the server sends is text, never markup", async () => {
  const hostile = {
    scope: HOSTILE,
    thread: HOSTILE,
    host: HOSTILE,
    site: { filename: HOSTILE, lineno: 1, function: HOSTILE },
  };
  serve(
    live({
      engines: [engine({ name: HOSTILE })],
      checkouts: [checkout({ ...hostile, stack: [{ ...hostile.site, application: true }] })],
      sessions: [session(hostile)],
      workers: [{ host: HOSTILE, pid: 1, started_at: HOSTILE, seen_at: HOSTILE, version: HOSTILE }],
    }),
    [finding({ ...hostile, message: HOSTILE, hint: HOSTILE, details: { [HOSTILE]: HOSTILE } })],
  );
  await open();
  await press("Stack");
  await press("Hint");
  expect(root.querySelector("img")).toBeNull();
  expect(text().split(HOSTILE).length).toBeGreaterThan(12);
});

test("who is refused sees a way in and nothing of what was shown before", async () => {
  serve(live({ checkouts: [checkout()] }));
  await open();
  serve(null, [], 401);
  await pass(2_000);
  expect(root.querySelector("a")?.getAttribute("href")).toBe("login");
  expect(text()).not.toContain("list_orders");
});

test("a server that has never answered is told from one that fell silent", async () => {
  serve(null, [], 503);
  await open();
  expect(text()).toContain("No answer yet");
  expect(text()).toContain("never heard");
});

test("many rows are shown only when asked for", async () => {
  serve(live({ checkouts: Array.from({ length: 60 }, (_none, id) => checkout({ id })) }));
  await open();
  expect(root.querySelectorAll("tbody")).toHaveLength(50);
  await act(() => root.querySelector<HTMLElement>("button.more")?.click());
  expect(root.querySelectorAll("tbody")).toHaveLength(60);
});

test("library frames are folded, unless there is nothing else to read", async () => {
  const stack = [frame("pool", false), frame("orders", true)];
  serve(live({ checkouts: [checkout({ stack, now: [frame("ssl", false)] })] }));
  await open();
  await press("Stacks of");
  expect([...root.querySelectorAll("details")].map((folded) => folded.open)).toEqual([false, true]);
});
