import type { Received } from "../api";
import type { Filters } from "../router";
import type { Answer, Finding, Findings, Level } from "../shapes";
import { counted, sinceOf } from "./format";
import type { Row } from "./live";
import { parseOrder } from "./sorting";

export const LEVELS: readonly Level[] = ["error", "warning", "info"];

export interface FindingRow extends Row<Finding> {
  /** On the reader's clock, since the server's may be another. */
  firstSeen: number;
  lastSeen: number;
}

export const findingRows = (answer: Received<Answer> & Pick<Findings, "findings">): FindingRow[] =>
  answer.findings.map((finding) => ({
    ...finding,
    key: finding.fingerprint,
    firstSeen: sinceOf(answer, finding.first_seen),
    lastSeen: sinceOf(answer, finding.last_seen),
  }));

export function recentInWords(recent: readonly number[]): string {
  const all = recent.reduce((sum, count) => sum + count, 0);
  return all === 0 ? "not seen in the last hour" : `seen ${counted(all, "time")} in the last hour`;
}

/** The server's words for the columns that sort. */
const sortNames: Readonly<Record<string, string>> = {
  Level: "level",
  Finding: "code",
  Scope: "scope",
  Count: "count",
  "Last seen": "last_seen",
};

export const FILTERS = ["q", "state", "level", "rule", "engine", "scope", "worker"] as const;
const PASSED_ON = ["q", "level", "rule", "engine", "scope", "worker"] as const;

export const FIRST_LIMIT = 50;
export const MOST_SHOWN = 500;

/** What the address asks for, in the words of the API. */
export function findingsQuery(filters: Filters): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of PASSED_ON) if (filters[name] !== undefined) query.set(name, filters[name]);
  if (filters.state === "open" || filters.state === "resolved")
    query.set("resolved", String(filters.state === "resolved"));
  query.set("known", String(filters.state === "baseline"));
  query.set("sort", sortOf(filters.sort));
  query.set("limit", String(limitOf(filters)));
  return query;
}

export function limitOf({ limit }: Filters): number {
  const wanted = Number(limit);
  return Number.isInteger(wanted) && wanted > 0 ? Math.min(wanted, MOST_SHOWN) : FIRST_LIMIT;
}

function sortOf(text: string | undefined): string {
  const order = parseOrder(text);
  const name = sortNames[order?.title ?? ""];
  if (order === null || name === undefined) return "-last_seen";
  return order.descending ? `-${name}` : name;
}

export const explainCommand = ({ code }: Pick<Finding, "code">): string => `flask sessionwatch explain ${code}`;
