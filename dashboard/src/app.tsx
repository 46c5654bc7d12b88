import { useEffect, useRef } from "preact/hooks";

import { Logo } from "./components/icons";
import { Shortcuts } from "./components/shortcuts";
import type { Page } from "./page";
import { findingPage } from "./pages/finding";
import { findingsPage } from "./pages/findings";
import { fleetPage } from "./pages/fleet";
import { nowPage } from "./pages/now";
import { poolsPage } from "./pages/pools";
import { requestsPage } from "./pages/requests";
import { rulesPage } from "./pages/rules";
import { addressOf, CurrentRoute, type Route, useRoute } from "./router";

const pages: readonly [Page, ...Page[]] = [nowPage, findingsPage, requestsPage, poolsPage, fleetPage, rulesPage];

export function App() {
  const route = useRoute();
  const page = pageAt(route);
  const main = useMain(page, route);
  return (
    <CurrentRoute.Provider value={route}>
      <button
        type="button"
        class="skip"
        onClick={() => {
          main.current?.focus();
        }}
      >
        Skip to the content
      </button>
      <header class="masthead">
        <p class="brand">
          <Logo /> sessionwatch
        </p>
        <nav aria-label="Pages">
          {pages.map(({ slug, title }) => (
            <a key={slug} href={addressOf([slug])} aria-current={slug === tabOf(route) ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <Shortcuts addresses={pages.map(({ slug, title }) => ({ title, address: addressOf([slug]) }))} />
      </header>
      <main ref={main} tabIndex={-1}>
        <page.Screen key={keyOf(route)} route={route} />
      </main>
    </CurrentRoute.Provider>
  );
}

function pageAt({ path }: Route): Page {
  if (path[0] === findingsPage.slug && path[1] !== undefined) return findingPage;
  return pages.find(({ slug }) => slug === path[0]) ?? pages[0];
}

const tabOf = ({ path }: Route): string => pages.find(({ slug }) => slug === path[0])?.slug ?? pages[0].slug;

/** A finding is a page of its own; a rule is a place on the page of rules. */
const keyOf = (route: Route): string => (pageAt(route) === findingPage ? (route.path[1] ?? "") : tabOf(route));

/** Whoever follows a link to another page is at its beginning, with eyes and with a screen reader. */
function useMain(page: Page, route: Route) {
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${page.title} · sessionwatch`;
    if (!isFirst.current) {
      scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
    isFirst.current = false;
  }, [keyOf(route)]);
  return main;
}
