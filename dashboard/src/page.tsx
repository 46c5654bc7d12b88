/** A page is a query and a view; how it is polled, and what is shown while there is no data, is the same for all. */

import type { FunctionComponent } from "preact";

import { Boundary } from "./components/boundary";
import { Clock } from "./components/clock";
import { Connection, Loading, LockedOut, NoAnswerYet, NotFound } from "./components/connection";
import { INTERVAL_MS, type Polled, usePolling } from "./polling";
import type { Route } from "./router";

export interface Page {
  /** The first part of its address. */
  slug: string;
  title: string;
  Screen: FunctionComponent<{ route: Route }>;
}

interface PageDefinition<Data> {
  slug: string;
  title: string;
  query: (route: Route, signal: AbortSignal, before: Data | null) => Promise<Data>;
  /** The part of the address the query looks at: it asks anew when this changes. */
  asks?: (route: Route) => string;
  /** Milliseconds between two looks. */
  interval?: number;
  View: FunctionComponent<{ data: Data; route: Route }>;
}

const nothing = (): string => "";

export function definePage<Data>(definition: PageDefinition<Data>): Page {
  const { slug, title, query, asks = nothing, interval = INTERVAL_MS, View } = definition;
  function Screen({ route }: { route: Route }) {
    const { state, askNow } = usePolling<Data>(
      (signal, before) => query(route, signal, before),
      interval,
      asks(route),
    );
    return (
      <>
        <div class="page-head">
          <h1 tabIndex={-1}>{title}</h1>
          <Connection state={state} interval={interval} askNow={askNow} />
        </div>
        <Content state={state} route={route} View={View} />
      </>
    );
  }
  return { slug, title, Screen };
}

interface ContentProps<Data> {
  state: Polled<Data>;
  route: Route;
  View: FunctionComponent<{ data: Data; route: Route }>;
}

function Content<Data>({ state: { phase, data, waitSeconds }, route, View }: ContentProps<Data>) {
  if (phase === "locked") return <LockedOut waitSeconds={waitSeconds} />;
  if (phase === "missing") return <NotFound />;
  if (data === null) return phase === "loading" ? <Loading /> : <NoAnswerYet />;
  return (
    <Clock running={phase === "live"}>
      <div class={phase === "live" ? "content" : "content stale"}>
        <Boundary>
          <View data={data} route={route} />
        </Boundary>
      </div>
    </Clock>
  );
}
