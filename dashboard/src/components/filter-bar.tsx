/** What a page can be narrowed by. Each choice is in the address, so that it can be linked. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { useFilters } from "../router";

const TYPING_PAUSE_MS = 250;

export function FilterBar({ children, names }: { children: ComponentChildren; names: readonly string[] }) {
  const [filters, change] = useFilters();
  const active = names.some((name) => (filters[name] ?? "") !== "");
  return (
    <form
      class="filters"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
      }}
    >
      {children}
      <button
        type="button"
        disabled={!active}
        onClick={() => {
          change(Object.fromEntries(names.map((name) => [name, ""])));
        }}
      >
        Clear
      </button>
    </form>
  );
}

export interface Option {
  value: string;
  label: string;
}

interface SelectProps {
  label: string;
  name: string;
  options: readonly Option[];
  /** What is shown when nothing is chosen. */
  all?: string;
}

export function Select({ label, name, options, all = "all" }: SelectProps) {
  const id = useId();
  const [filters, change] = useFilters();
  const chosen = filters[name] ?? "";
  // A link may name what is not there at the moment, and must go on saying so.
  const isListed = chosen === "" || options.some(({ value }) => value === chosen);
  return (
    <div class="filter">
      <label for={id}>{label}</label>
      <select
        id={id}
        value={chosen}
        onChange={(event) => {
          change({ [name]: event.currentTarget.value });
        }}
      >
        <option value="">{all}</option>
        {isListed ? null : <option value={chosen}>{chosen}</option>}
        {options.map(({ value, label: text }) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

/** The address follows when the typing pauses. */
export function Search({ label, name }: { label: string; name: string }) {
  const id = useId();
  const [filters, change] = useFilters();
  const wanted = filters[name] ?? "";
  const [typed, setTyped] = useState(wanted);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => {
    setTyped(wanted);
  }, [wanted]);
  const follow = (value: string): void => {
    setTyped(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      change({ [name]: value });
    }, TYPING_PAUSE_MS);
  };
  return (
    <div class="filter search">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="search"
        value={typed}
        autocomplete="off"
        spellcheck={false}
        data-shortcut="search"
        onInput={(event) => {
          follow(event.currentTarget.value);
        }}
      />
    </div>
  );
}

interface SegmentsProps {
  label: string;
  name: string;
  options: readonly Option[];
  /** Chosen where the address says nothing. */
  standard: string;
}

/** A few choices side by side. */
export function Segments({ label, name, options, standard }: SegmentsProps) {
  const [filters, change] = useFilters();
  const chosen = filters[name] ?? standard;
  return (
    <div class="segments" role="group" aria-label={label}>
      {options.map(({ value, label: text }) => (
        <button
          key={value}
          type="button"
          aria-pressed={value === chosen}
          onClick={() => {
            change({ [name]: value === standard ? "" : value });
          }}
        >
          {text}
        </button>
      ))}
    </div>
  );
}
