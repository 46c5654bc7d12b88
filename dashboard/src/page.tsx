/** A page is a query and a view; how it is polled, and what is shown while there is no data, is the same for all. */

import type { FunctionComponent } from "preact";

import { Clock } from "./components/clock";
import { Connection, Loading, LockedOut, NoAnswerYet } from "./components/connection";
import { type Polled, type Query, usePolling } from "./polling";

export interface Page {
  slug: string;
  title: string;
  Screen: FunctionComponent;
}

interface PageDefinition<Data> {
  slug: string;
  title: string;
  query: Query<Data>;
  View: FunctionComponent<{ data: Data }>;
}

export function definePage<Data>({ slug, title, query, View }: PageDefinition<Data>): Page {
  function Screen() {
    const { state, askNow } = usePolling(query);
    return (
      <>
        <div class="page-head">
          <h1>{title}</h1>
          <Connection state={state} askNow={askNow} />
        </div>
        <Content state={state} View={View} />
      </>
    );
  }
  return { slug, title, Screen };
}

interface ContentProps<Data> {
  state: Polled<Data>;
  View: FunctionComponent<{ data: Data }>;
}

function Content<Data>({ state: { phase, data, heardAt }, View }: ContentProps<Data>) {
  if (phase === "locked") return <LockedOut />;
  if (data === null || heardAt === null) return phase === "loading" ? <Loading /> : <NoAnswerYet />;
  return (
    <Clock heardAt={heardAt} running={phase === "live"}>
      <div class={phase === "live" ? "content" : "content stale"}>
        <View data={data} />
      </div>
    </Clock>
  );
}
