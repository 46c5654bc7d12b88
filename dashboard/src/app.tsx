import { useEffect, useState } from "preact/hooks";

import type { Page } from "./page";
import { nowPage } from "./pages/now";

const pages: readonly [Page, ...Page[]] = [nowPage];

export function App() {
  const page = useCurrentPage();
  return (
    <>
      <header class="masthead">
        <p class="brand">sessionwatch</p>
        <nav aria-label="Pages">
          {pages.map(({ slug, title }) => (
            <a key={slug} href={`#${slug}`} aria-current={slug === page.slug ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
      </header>
      <main>
        <page.Screen key={page.slug} />
      </main>
    </>
  );
}

/** The part after the # works under every prefix and asks nothing of the server. */
function useCurrentPage(): Page {
  const [slug, setSlug] = useState(slugInAddress);
  const page = pages.find((each) => each.slug === slug) ?? pages[0];
  useEffect(() => {
    const follow = (): void => {
      setSlug(slugInAddress());
    };
    addEventListener("hashchange", follow);
    return () => {
      removeEventListener("hashchange", follow);
    };
  }, []);
  useEffect(() => {
    document.title = `${page.title} · sessionwatch`;
  }, [page]);
  return page;
}

const slugInAddress = (): string => location.hash.slice(1);
