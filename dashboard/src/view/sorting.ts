/** The order of a table's rows, as the address has it: "Count" is ascending, "-Count" descending. */

export type SortKey<Fact> = (fact: Fact) => number | string | null;

export interface Order {
  title: string;
  descending: boolean;
}

export interface Sortable<Fact> {
  title: string;
  sort?: SortKey<Fact>;
}

export function parseOrder(text: string | undefined): Order | null {
  if (text === undefined || text === "") return null;
  return text.startsWith("-") ? { title: text.slice(1), descending: true } : { title: text, descending: false };
}

/** The most first, then the least, then as the page has it. */
export function nextOrder(title: string, order: Order | null): string {
  if (order?.title !== title) return `-${title}`;
  return order.descending ? title : "";
}

export function ariaSort(title: string, order: Order | null): "ascending" | "descending" | "none" {
  if (order?.title !== title) return "none";
  return order.descending ? "descending" : "ascending";
}

/** What is not known comes last, whichever way. */
export function sorted<Fact>(
  facts: readonly Fact[],
  columns: readonly Sortable<Fact>[],
  order: Order | null,
): readonly Fact[] {
  const key = columns.find(({ title }) => title === order?.title)?.sort;
  if (key === undefined || order === null) return facts;
  const turn = order.descending ? -1 : 1;
  const keyed = facts.map((fact) => ({ fact, value: key(fact) }));
  return keyed.sort((one, other) => compared(one.value, other.value, turn)).map(({ fact }) => fact);
}

type Value = number | string | null;

function compared(one: Value, other: Value, turn: number): number {
  if (one === null || other === null) return Number(one === null) - Number(other === null);
  if (typeof one === "number" && typeof other === "number") return turn * (one - other);
  return turn * String(one).localeCompare(String(other));
}
