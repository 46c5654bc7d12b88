import type { Received } from "../src/api";
import type {
  Checkout,
  Engine,
  Finding,
  Findings,
  Frame,
  Live,
  OneFinding,
  Rule,
  Scope,
  Series,
  Session,
} from "../src/shapes";

/** An answer as the server gives it, with only what a test is about written out. */

export const NOW = "2026-05-04T10:00:00Z";

const answer = { now: NOW, store: { problem: null } };

/** What the reader's clock said when it came. */
export const received = <Given>(given: Given, receivedAt = 1_000_000): Received<Given> => ({ ...given, receivedAt });

export const live = (parts: Partial<Live> = {}): Live => ({
  ...answer,
  workers: [],
  engines: [],
  sessions: [],
  checkouts: [],
  omitted: { sessions: 0, checkouts: 0 },
  ...parts,
});

const worker = { host: "web-1", pid: 4711 };

export const engine = (parts: Partial<Engine> = {}): Engine => ({
  ...worker,
  name: "default",
  dialect: "postgresql",
  pool: "QueuePool",
  size: 5,
  max: 15,
  overflow: 0,
  used: 3,
  idle: 2,
  waiting: 0,
  oldest_age_seconds: 1.5,
  ...parts,
});

export const site = (name = "orders", lineno = 42) => ({
  filename: `/srv/shop/${name}.py`,
  lineno,
  function: `list_${name}`,
});

const holder = {
  ...worker,
  id: "web-1/4711/1",
  scope: "GET /orders/<int:id>",
  scope_kind: "request",
  site: site(),
  age_seconds: 1.5,
  since: "2026-05-04T09:59:58.500Z",
  thread: "gthread-3",
  leaked: false,
  stack: [],
  doing: null,
  now: [],
};

export const checkout = (parts: Partial<Checkout> = {}): Checkout => ({
  ...holder,
  engine: "default",
  session: true,
  session_id: null,
  statements: 2,
  server_id: null,
  idle_seconds: 0.5,
  ...parts,
});

export const session = (parts: Partial<Session> = {}): Session => ({ ...holder, writes: 0, checkouts: 0, ...parts });

export const finding = (parts: Partial<Finding> = {}): Finding => ({
  code: "SW101",
  rule: "leaked-connection",
  level: "error",
  message: "GET /orders/<int:id> ended with a connection still checked out.",
  site: site(),
  scope: holder.scope,
  scope_kind: "request",
  about: null,
  engine: "default",
  verb: "checked out",
  count: 1,
  first_seen: "2026-05-04T09:00:00Z",
  last_seen: "2026-05-04T09:59:30Z",
  resolved: false,
  known: false,
  recent: [0, 2, 1],
  workers: [],
  worker_count: 1,
  fingerprint: "abc",
  ...parts,
});

export const oneFinding = (parts: Partial<OneFinding> = {}): OneFinding => ({
  ...finding(),
  ...answer,
  hint: "Use 'with Session(...)'.",
  details: {},
  stack: [],
  sources: [],
  timeline: [],
  page: null,
  ignore: 'SESSIONWATCH_IGNORE = ["SW101"]',
  ...parts,
});

export const findings = (rows: Finding[] = [], parts: Partial<Findings> = {}): Findings => ({
  ...answer,
  findings: rows,
  total: rows.length,
  counts: { open: { error: rows.length, warning: 0, info: 0 }, resolved: 0, known: 0 },
  facets: { rule: [], code: [], level: [], engine: [], scope: [], worker: [] },
  ...parts,
});

export const series = (parts: Partial<Series> = {}): Series => ({
  ...answer,
  span: "15m",
  step_seconds: 10,
  start: "2026-05-04T09:59:30Z",
  workers: [1, 1, 1],
  sessions: [1, null, 2],
  scopes: [1, null, 2],
  findings: [0, null, 1],
  transactions: {
    commit: [6, null, 3],
    rollback: [0, null, 0],
    rollback_on_close: [0, null, 0],
    error: [0, null, 0],
    garbage_collected: [0, null, 0],
  },
  engines: [],
  ...parts,
});

export const scope = (parts: Partial<Scope> = {}): Scope => ({
  scope: "GET /orders",
  kind: "request",
  count: 10,
  verdicts: { clean: 8, info: 0, warning: 1, error: 1 },
  commits: { p50: 1, p95: 2, max: 3 },
  sessions: 10,
  connections_peak: 1,
  hold_seconds: 2,
  wait_seconds: 0,
  lost_writes: 0,
  hold_share: 0.5,
  lost_writes_share: 0,
  bad: [],
  ...parts,
});

export const rule = (parts: Partial<Rule> = {}): Rule => ({
  code: "SW101",
  rule: "leaked-connection",
  level: "error",
  hint: "use 'with engine.connect() as connection:'.",
  page: "A scope ended.\n\nWhat it does\n    Looks.",
  settings: {},
  enabled: true,
  ignored: [],
  thresholds: [],
  findings: { open: 0, total: 0 },
  ...parts,
});

export const frame = (name: string, application: boolean): Frame => ({
  filename: `/srv/${name}.py`,
  lineno: 1,
  function: name,
  application,
});
