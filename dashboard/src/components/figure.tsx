import type { ComponentChildren } from "preact";

import type { Tone } from "./labels";

interface FigureProps {
  title: string;
  value: ComponentChildren;
  tone?: Tone;
  children: ComponentChildren;
}

/** One headline figure: what, how much, and a line that explains it. */
export function Figure({ title, value, tone = "plain", children }: FigureProps) {
  return (
    <article class={`figure ${tone}`}>
      <h2>{title}</h2>
      <p class="value">{value}</p>
      <p class="note">{children}</p>
    </article>
  );
}
