import { fetchRules, type Received } from "../api";
import { StoreProblem } from "../components/connection";
import { FilterBar, Search, Select } from "../components/filter-bar";
import { definePage } from "../page";
import type { Route } from "../router";
import { FamilyPanel } from "../sections/family-panel";
import type { Rules } from "../shapes";
import { families, FILTERS, narrowed } from "../view/rules";

const SLOW = 10_000;

const query = (_route: Route, signal: AbortSignal): Promise<Received<Rules>> => fetchRules(signal);

const LEVELS = ["error", "warning", "info"].map((level) => ({ value: level, label: level }));
const STATES = [
  { value: "found", label: "with findings" },
  { value: "on", label: "on" },
  { value: "off", label: "off" },
];

function View({ data, route: { filters, path } }: { data: Received<Rules>; route: Route }) {
  const chosen = path[1] ?? null;
  const rules = narrowed(data.rules, filters);
  return (
    <>
      <StoreProblem problem={data.store.problem} />
      <FilterBar names={FILTERS}>
        <Search label="Text" name="q" />
        <Select label="Level" name="level" options={LEVELS} />
        <Select label="State" name="state" options={STATES} />
      </FilterBar>
      {rules.length === 0 ? (
        <p class="empty">No rule matches all of these filters.</p>
      ) : (
        families(rules).map(({ title, rules: members }) => (
          <FamilyPanel key={title} title={title} rules={members} chosen={chosen} />
        ))
      )}
    </>
  );
}

export const rulesPage = definePage({ slug: "rules", title: "Rules", query, interval: SLOW, View });
