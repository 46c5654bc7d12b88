import { useEffect, useState } from "preact/hooks";

const SERIES_COLOURS = 7;

/** A canvas does not follow the style sheet by itself. */
export function seriesColour(css: CSSStyleDeclaration, index: number): string {
  return css.getPropertyValue(`--series-${index % SERIES_COLOURS}`).trim();
}

/** Changes whenever the reader turns from light to dark or back. */
export function useThemeChanges(): boolean {
  const [dark, setDark] = useState(() => darkQuery().matches);
  useEffect(() => {
    const query = darkQuery();
    const follow = (): void => {
      setDark(query.matches);
    };
    query.addEventListener("change", follow);
    return () => {
      query.removeEventListener("change", follow);
    };
  }, []);
  return dark;
}

const darkQuery = (): MediaQueryList => matchMedia("(prefers-color-scheme: dark)");
