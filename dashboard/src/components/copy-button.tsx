import { useEffect, useRef, useState } from "preact/hooks";

interface CopyButtonProps {
  label: string;
  /** Made only when it is asked for. */
  text: () => string;
}

type Outcome = "copied" | "not allowed";

const OUTCOME_SHOWN_MS = 2_000;

export function CopyButton({ label, text }: CopyButtonProps) {
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(
    () => () => {
      clearTimeout(timer.current);
    },
    [],
  );
  const copy = async (): Promise<void> => {
    setOutcome((await copied(text())) ? "copied" : "not allowed");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setOutcome(null);
    }, OUTCOME_SHOWN_MS);
  };
  return (
    <span class="copy">
      <button
        type="button"
        onClick={() => {
          void copy();
        }}
      >
        {label}
      </button>
      <span role="status" class="quiet">
        {outcome}
      </span>
    </span>
  );
}

/** Browsers keep the clipboard from pages that came over plain HTTP, except from this machine; the old way still works there. */
async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedBySelection(text);
  }
}

function copiedBySelection(text: string): boolean {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "hidden";
  document.body.append(field);
  const focused = document.activeElement;
  field.select();
  try {
    // Deprecated, and the only way where there is no secure context.
    // eslint-disable-next-line @typescript-eslint/no-deprecated
    return document.execCommand("copy");
  } finally {
    field.remove();
    if (focused instanceof HTMLElement) focused.focus();
  }
}
