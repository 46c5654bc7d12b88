import type { Finding, Level } from "../api";
import { secondsBetween } from "./format";
import type { Row } from "./live";

export const LEVELS: readonly Level[] = ["error", "warning", "info"];

export interface FindingRow extends Row<Finding> {
  firstSeenSecondsAgo: number | null;
  lastSeenSecondsAgo: number | null;
}

/** The newest first; ages are counted on the server's clock, since the reader's may be wrong. */
export function findingRows(findings: Finding[], serverNow: string): FindingRow[] {
  return findings
    .map((finding) => ({
      ...finding,
      key: finding.fingerprint,
      firstSeenSecondsAgo: secondsBetween(serverNow, finding.first_seen),
      lastSeenSecondsAgo: secondsBetween(serverNow, finding.last_seen),
    }))
    .sort((one, other) => Date.parse(other.first_seen) - Date.parse(one.first_seen));
}

export interface FindingCounts {
  byLevel: Record<Level, number>;
  open: number;
  resolved: number;
}

export function findingCounts(findings: Finding[]): FindingCounts {
  const open = findings.filter((finding) => !finding.resolved);
  const count = (level: Level): number => open.filter((finding) => finding.level === level).length;
  return {
    byLevel: { error: count("error"), warning: count("warning"), info: count("info") },
    open: open.length,
    resolved: findings.length - open.length,
  };
}

export const explainCommand = (finding: Finding): string => `flask sessionwatch explain ${finding.code}`;
