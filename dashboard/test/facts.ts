import type { Checkout, Engine, Finding, Frame, Live, Session } from "../src/api";

/** An answer as the server gives it, with only what a test is about written out. */

export const live = (parts: Partial<Live> = {}): Live => ({
  now: "2026-05-04T10:00:00Z",
  workers: [],
  engines: [],
  sessions: [],
  checkouts: [],
  ...parts,
});

export const engine = (parts: Partial<Engine> = {}): Engine => ({
  name: "default",
  dialect: "postgresql",
  pool: "QueuePool",
  size: 5,
  max: 15,
  used: 3,
  idle: 2,
  waiting: 0,
  oldest_age_seconds: 1.5,
  ...parts,
});

const holder = {
  id: 1,
  scope: "GET /orders/<int:id>",
  scope_kind: "request" as const,
  site: { filename: "/srv/shop/orders.py", lineno: 42, function: "list_orders" },
  age_seconds: 1.5,
  thread: "gthread-3",
  host: "web-1",
  pid: 4711,
  leaked: false,
  stack: [],
};

export const checkout = (parts: Partial<Checkout> = {}): Checkout => ({
  ...holder,
  engine: "default",
  session: true,
  statements: 2,
  idle_seconds: 0.5,
  now: [],
  ...parts,
});

export const session = (parts: Partial<Session> = {}): Session => ({ ...holder, writes: 0, checkouts: 0, ...parts });

export const finding = (parts: Partial<Finding> = {}): Finding => ({
  code: "SW101",
  rule: "leaked-connection",
  level: "error",
  message: "GET /orders/<int:id> ended with a connection still checked out.",
  site: holder.site,
  scope: holder.scope,
  scope_kind: "request",
  hint: "Use 'with Session(...)'.",
  count: 1,
  first_seen: "2026-05-04T09:00:00Z",
  last_seen: "2026-05-04T09:59:30Z",
  resolved: false,
  fingerprint: "abc",
  details: {},
  stack: [],
  ...parts,
});

export const frame = (name: string, application: boolean): Frame => ({
  filename: `/srv/${name}.py`,
  lineno: 1,
  function: name,
  application,
});
