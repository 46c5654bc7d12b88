import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

import { number } from "../view/numbers";

interface PanelProps {
  title: ComponentChildren;
  count?: number;
  /** Where there is more of it. */
  href?: string;
  /** Of its heading. */
  level?: 2 | 3;
  children: ComponentChildren;
}

export function Panel({ title, count, href, level = 2, children }: PanelProps) {
  const id = useId();
  const Heading = level === 2 ? "h2" : "h3";
  return (
    <section class="panel" aria-labelledby={id}>
      <Heading id={id}>
        {href === undefined ? title : <a href={href}>{title}</a>}
        {count === undefined ? null : <span class="count"> {number(count)}</span>}
      </Heading>
      {children}
    </section>
  );
}
