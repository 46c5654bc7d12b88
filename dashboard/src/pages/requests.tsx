import { fetchScopes, type Received } from "../api";
import { StoreProblem } from "../components/connection";
import { FilterBar, Search, Select } from "../components/filter-bar";
import { Panel } from "../components/panel";
import { definePage } from "../page";
import type { Route } from "../router";
import { ScopeTable } from "../sections/scope-table";
import type { Scopes } from "../shapes";
import { FILTERS, KINDS, narrowed, scopeRows } from "../view/scopes";

const SLOW = 5_000;

const query = (_route: Route, signal: AbortSignal): Promise<Received<Scopes>> => fetchScopes(signal);

function View({ data, route: { filters } }: { data: Received<Scopes>; route: Route }) {
  const rows = narrowed(scopeRows(data), filters);
  return (
    <>
      <StoreProblem problem={data.store.problem} />
      <FilterBar names={FILTERS}>
        <Search label="Text" name="q" />
        <Select label="Kind" name="kind" options={KINDS(data.scopes)} />
        <Select label="Verdict" name="verdict" options={VERDICTS} />
      </FilterBar>
      <Panel title="Scopes" count={rows.length}>
        <ScopeTable
          rows={rows}
          empty={
            data.scopes.length === 0
              ? "No scope has ended yet: a scope is counted when its request, command or task is over."
              : "No scope matches all of these filters."
          }
        />
      </Panel>
    </>
  );
}

const VERDICTS = [
  { value: "bad", label: "with findings" },
  { value: "clean", label: "always clean" },
  { value: "lost", label: "with lost writes" },
];

export const requestsPage = definePage({ slug: "requests", title: "Requests", query, interval: SLOW, View });
