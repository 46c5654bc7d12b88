/** Ages go on between two answers; only the text that shows one is drawn again each second. */

import { type ComponentChildren, createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";

import { duration, roughDuration, UNKNOWN, utc } from "../view/format";

/** The reader's clock, in milliseconds since the epoch. */
const Now = createContext<number | null>(null);

interface ClockProps {
  /** A stopped clock keeps its time: ages nobody confirms must not grow. */
  running: boolean;
  children: ComponentChildren;
}

export function Clock({ running, children }: ClockProps) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return undefined;
    setNow(Date.now());
    const timer = setInterval(() => {
      setNow(Date.now());
    }, 1000);
    return () => {
      clearInterval(timer);
    };
  }, [running]);
  return <Now.Provider value={now}>{children}</Now.Provider>;
}

export function StoppedClock({ children }: { children: ComponentChildren }) {
  const [stoppedAt] = useState(Date.now);
  return <Now.Provider value={stoppedAt}>{children}</Now.Provider>;
}

/** @param since the reader's clock when it began, in milliseconds since the epoch */
export function Age({ since }: { since: number | null }) {
  const now = useContext(Now) ?? Date.now();
  if (since === null) return <span class="age">{UNKNOWN}</span>;
  return (
    <span class="age" title={`since ${utc(new Date(since).toISOString())}`}>
      {duration((now - since) / 1000)}
    </span>
  );
}

interface AgoProps {
  /** As the server told it. */
  time: string | null;
  since: number | null;
}

/** When it was in full is read out, and shown to those who point at it. */
export function Ago({ time, since }: AgoProps) {
  const now = useContext(Now) ?? Date.now();
  if (time === null || since === null) return <>unknown</>;
  return (
    <time class="age" dateTime={time} title={utc(time)}>
      {roughDuration((now - since) / 1000)} ago<span class="hidden">, {utc(time)}</span>
    </time>
  );
}
