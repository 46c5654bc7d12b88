import type { Received } from "../api";
import type { Filters } from "../router";
import type { Level, Scope, Scopes, Verdict } from "../shapes";
import { sinceOf } from "./format";
import type { Row } from "./live";
import { scopeKind } from "./live";

export const FILTERS = ["q", "kind", "verdict"] as const;

export type ScopeRow = Row<Scope> & {
  /** When each of its bad ones ended, on the reader's clock. */
  badSince: number[];
};

export const scopeRows = (answer: Received<Scopes>): ScopeRow[] =>
  answer.scopes.map((scope) => ({
    ...scope,
    key: `${scope.kind} ${scope.scope}`,
    badSince: scope.bad.map(({ at }) => sinceOf(answer, at)),
  }));

export const badCount = ({ count, verdicts }: Scope): number => count - verdicts.clean;

export function narrowed(rows: readonly ScopeRow[], { q = "", kind = "", verdict = "" }: Filters): ScopeRow[] {
  const text = q.trim().toLowerCase();
  return rows.filter(
    (row) =>
      (text === "" || row.scope.toLowerCase().includes(text)) &&
      (kind === "" || row.kind === kind) &&
      hasVerdict(row, verdict),
  );
}

function hasVerdict(row: Scope, verdict: string): boolean {
  if (verdict === "bad") return badCount(row) > 0;
  if (verdict === "clean") return badCount(row) === 0;
  return verdict !== "lost" || row.lost_writes > 0;
}

/** Each kind that occurs. */
export const KINDS = (scopes: readonly Scope[]): { value: string; label: string }[] =>
  [...new Set(scopes.map(({ kind }) => kind))].sort().map((kind) => ({ value: kind, label: scopeKind(kind) ?? kind }));

const WORST_FIRST: readonly Level[] = ["error", "warning", "info"];

/** "3 errors, 120 clean" */
export function verdictsInWords(verdicts: Record<Verdict, number>): string {
  const told = WORST_FIRST.filter((level) => verdicts[level] > 0).map((level) => `${verdicts[level]} ${level}`);
  return [...told, `${verdicts.clean} clean`].join(", ");
}

/** Shares of all, the worst first; what happened at all can be seen. */
export function verdictParts({ count, verdicts }: Pick<Scope, "count" | "verdicts">): { kind: string; share: number }[] {
  return WORST_FIRST.filter((verdict) => verdicts[verdict] > 0).map((verdict) => ({
    kind: verdict,
    share: Math.max(0.03, verdicts[verdict] / count),
  }));
}
