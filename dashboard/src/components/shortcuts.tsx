/** Keys for those who do not like the mouse; they can be turned off, since some people speak their input. */

import { useEffect, useRef, useState } from "preact/hooks";

interface Address {
  title: string;
  address: string;
}

const SETTING = "sessionwatch shortcuts";

export function Shortcuts({ addresses }: { addresses: readonly Address[] }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [on, setOn] = useState(isOn);
  useEffect(() => {
    if (!on) return undefined;
    const follow = (event: KeyboardEvent): void => {
      if (isMeantForOthers(event) || dialog.current?.open === true) return;
      if (act(event.key, addresses, dialog.current)) event.preventDefault();
    };
    addEventListener("keydown", follow);
    return () => {
      removeEventListener("keydown", follow);
    };
  }, [on, addresses.length]);
  return (
    <div class="shortcuts">
      <button
        type="button"
        aria-haspopup="dialog"
        onClick={() => {
          dialog.current?.showModal();
        }}
      >
        Keys
      </button>
      <dialog ref={dialog} aria-labelledby="keys-title">
        <h2 id="keys-title">Keys</h2>
        <dl class="keys">
          {addresses.map(({ title }, index) => (
            <Key key={title} name={String(index + 1)} what={title} />
          ))}
          <Key name="/" what="to the search" />
          <Key name="j" what="next row" />
          <Key name="k" what="row before" />
          <Key name="Enter" what="open the row" />
          <Key name="?" what="these keys" />
        </dl>
        <label class="check">
          <input
            type="checkbox"
            checked={on}
            onChange={(event) => {
              keep(event.currentTarget.checked);
              setOn(event.currentTarget.checked);
            }}
          />{" "}
          Keys without Ctrl or Alt do something
        </label>
        <form method="dialog">
          <button>Close</button>
        </form>
      </dialog>
    </div>
  );
}

function Key({ name, what }: { name: string; what: string }) {
  return (
    <div>
      <dt>
        <kbd>{name}</kbd>
      </dt>
      <dd>{what}</dd>
    </div>
  );
}

function isMeantForOthers({ target, ctrlKey, altKey, metaKey }: KeyboardEvent): boolean {
  return ctrlKey || altKey || metaKey || (target instanceof Element && target.matches("input, select, textarea"));
}

/** @returns whether the key was one of ours */
function act(key: string, addresses: readonly Address[], dialog: HTMLDialogElement | null): boolean {
  const page = addresses[Number(key) - 1];
  if (page !== undefined) location.hash = page.address;
  else if (key === "?") dialog?.showModal();
  else if (key === "/") document.querySelector<HTMLElement>("[data-shortcut=search]")?.focus();
  else if (key === "j" || key === "k") moveFocus(key === "j" ? 1 : -1);
  else return false;
  return true;
}

/** From row to row: to what opens each. */
function moveFocus(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>(".opener button, .row-link, .rule summary")].filter(
    (each) => each.offsetParent !== null,
  );
  const at = rows.findIndex((each) => each === document.activeElement);
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by];
  next?.focus();
}

/** The browser may keep nothing, and asking then is an error. */
function isOn(): boolean {
  try {
    return localStorage.getItem(SETTING) !== "off";
  } catch {
    return true;
  }
}

function keep(on: boolean): void {
  try {
    localStorage.setItem(SETTING, on ? "on" : "off");
  } catch {
    // It is so until the page is closed.
  }
}
