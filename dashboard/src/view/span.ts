import type { Filters } from "../router";
import type { Span } from "../shapes";

/** How far back charts reach. */
export const SPANS: readonly { value: Span; label: string }[] = [
  { value: "15m", label: "15 min" },
  { value: "1h", label: "1 h" },
  { value: "6h", label: "6 h" },
];

export const spanOf = ({ span }: Filters): Span => SPANS.find(({ value }) => value === span)?.value ?? "15m";
