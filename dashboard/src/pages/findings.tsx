import { fetchFindings, type Received } from "../api";
import { StoreProblem } from "../components/connection";
import { FilterBar, type Option, Search, Select } from "../components/filter-bar";
import { FindingTable } from "../components/finding-table";
import { Panel } from "../components/panel";
import { definePage } from "../page";
import { type Route, useFilters } from "../router";
import type { FacetValue, Findings } from "../shapes";
import { FILTERS, FIRST_LIMIT, findingRows, findingsQuery, limitOf, MOST_SHOWN } from "../view/findings";
import { number } from "../view/numbers";

const query = ({ filters }: Route, signal: AbortSignal): Promise<Received<Findings>> =>
  fetchFindings(findingsQuery(filters), signal);

const asks = ({ filters }: Route): string => findingsQuery(filters).toString();

const STATES: readonly Option[] = [
  { value: "open", label: "open" },
  { value: "resolved", label: "resolved" },
  { value: "baseline", label: "in the baseline" },
];

function View({ data, route }: { data: Received<Findings>; route: Route }) {
  const isNarrowed = FILTERS.some((name) => (route.filters[name] ?? "") !== "");
  return (
    <>
      <StoreProblem problem={data.store.problem} />
      <Narrow findings={data} />
      <Panel title={isNarrowed ? "Matching findings" : "All findings"} count={data.total}>
        <FindingTable
          caption="One row per bug. The latest seen first, unless a column is chosen."
          rows={findingRows(data)}
          empty={
            isNarrowed
              ? "No finding matches all of these filters."
              : "Nothing has been found. Healthy code stays silent."
          }
        />
        <More shown={data.findings.length} total={data.total} />
      </Panel>
    </>
  );
}

function Narrow({ findings: { facets } }: { findings: Findings }) {
  return (
    <FilterBar names={FILTERS}>
      <Search label="Text" name="q" />
      <Select label="State" name="state" options={STATES} all="open or resolved" />
      <Select label="Level" name="level" options={optionsOf(facets.level)} />
      <Select label="Rule" name="rule" options={optionsOf(facets.rule)} />
      <Select label="Engine" name="engine" options={optionsOf(facets.engine)} />
      <Select label="Scope" name="scope" options={optionsOf(facets.scope)} />
      <Select label="Worker" name="worker" options={optionsOf(facets.worker)} />
    </FilterBar>
  );
}

const optionsOf = (values: readonly FacetValue[]): Option[] =>
  values.map(({ value, count }) => ({ value, label: `${value} (${number(count)})` }));

function More({ shown, total }: { shown: number; total: number }) {
  const [filters, change] = useFilters();
  if (shown >= total) return null;
  if (shown >= MOST_SHOWN)
    return <p class="quiet">{number(total - shown)} more are not shown; the filters narrow them down.</p>;
  const next = limitOf(filters) === FIRST_LIMIT ? 200 : MOST_SHOWN;
  return (
    <button
      type="button"
      class="more"
      onClick={() => {
        change({ limit: String(next) });
      }}
    >
      Show {Math.min(next, total)} of {number(total)}
    </button>
  );
}

export const findingsPage = definePage({ slug: "findings", title: "Findings", query, asks, View });
