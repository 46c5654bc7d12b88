import type { Filters } from "../router";
import type { Rule } from "../shapes";

export const FILTERS = ["q", "level", "state"] as const;

export interface Family {
  title: string;
  rules: Rule[];
}

const titles: Readonly<Record<string, string>> = {
  SW1: "Connections",
  SW2: "Sessions and transactions",
  SW3: "Scopes and threads",
  SW4: "Misuse of the API",
  SW5: "Workload",
  SW6: "Pools",
  SW7: "Configuration",
};

export function families(rules: readonly Rule[]): Family[] {
  const byTitle = new Map<string, Rule[]>();
  for (const rule of rules) {
    const title = titles[rule.code.slice(0, 3)] ?? "Rules of this application";
    byTitle.set(title, [...(byTitle.get(title) ?? []), rule]);
  }
  return [...byTitle].map(([title, members]) => ({ title, rules: members }));
}

export function narrowed(rules: readonly Rule[], { q = "", level = "", state = "" }: Filters): Rule[] {
  const text = q.trim().toLowerCase();
  return rules.filter(
    (rule) =>
      (text === "" || `${rule.code} ${rule.rule} ${rule.page}`.toLowerCase().includes(text)) &&
      (level === "" || rule.level === level) &&
      isIn(state, rule),
  );
}

function isIn(state: string, { enabled, findings }: Rule): boolean {
  if (state === "found") return findings.total > 0;
  return state === "" || enabled === (state === "on");
}

export const summaryOf = ({ page }: Pick<Rule, "page">): string => (page.split("\n\n")[0] ?? "").replace(/\s*\n\s*/g, " ");
