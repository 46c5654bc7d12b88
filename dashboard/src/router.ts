/** Addresses within the dashboard: what stands behind the # works under every prefix and asks nothing of the server. */

import { createContext } from "preact";
import { useContext, useEffect, useMemo, useState } from "preact/hooks";

export type Filters = Readonly<Record<string, string>>;

export interface Route {
  /** "findings", or "findings" and a fingerprint. */
  readonly path: readonly string[];
  readonly filters: Filters;
}

/** "#findings/0f3a?level=error" */
export function parseRoute(hash: string): Route {
  const [path, query] = splitOnce(hash.replace(/^#\/?/, ""), "?");
  return {
    path: path.split("/").filter(Boolean).map(decoded),
    filters: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** What is empty is not asked for, and stays out of the address. */
export function addressOf(path: readonly string[], filters: Filters = {}): string {
  const wanted = Object.entries(filters).filter(([, value]) => value !== "");
  const query = new URLSearchParams(wanted).toString();
  return `#${path.map(encodeURIComponent).join("/")}${query === "" ? "" : `?${query}`}`;
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/** A link that somebody has cut short must not take the page down. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function useRoute(): Route {
  const [hash, setHash] = useState(() => location.hash);
  useEffect(() => {
    const follow = (): void => {
      setHash(location.hash);
    };
    addEventListener("hashchange", follow);
    return () => {
      removeEventListener("hashchange", follow);
    };
  }, []);
  return useMemo(() => parseRoute(hash), [hash]);
}

export const CurrentRoute = createContext<Route>({ path: [], filters: {} });

/** The filters of this address, and how to change some of them without filling the reader's history. */
export function useFilters(): [Filters, (changes: Filters) => void] {
  const { path, filters } = useContext(CurrentRoute);
  const change = (changes: Filters): void => {
    history.replaceState(null, "", addressOf(path, { ...filters, ...changes }));
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  return [filters, change];
}
