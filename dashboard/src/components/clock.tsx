/** Ages go on between two answers; only the text that shows one is drawn again each second. */

import { type ComponentChildren, createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";

import { duration, utc } from "../view/format";

/** Seconds since the server was heard. */
const SinceHeard = createContext(0);

interface ClockProps {
  heardAt: number;
  /** A stopped clock keeps its time: ages nobody confirms must not grow. */
  running: boolean;
  children: ComponentChildren;
}

export function Clock({ heardAt, running, children }: ClockProps) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(() => {
      setNow(Date.now());
    }, 1000);
    return () => {
      clearInterval(timer);
    };
  }, [running]);
  return <SinceHeard.Provider value={Math.max(0, (now - heardAt) / 1000)}>{children}</SinceHeard.Provider>;
}

export function StoppedClock({ children }: { children: ComponentChildren }) {
  return <SinceHeard.Provider value={0}>{children}</SinceHeard.Provider>;
}

/** @param seconds the age when the server was heard */
export function Age({ seconds }: { seconds: number | null }) {
  const sinceHeard = useContext(SinceHeard);
  return <span class="age">{duration(seconds === null ? null : seconds + sinceHeard)}</span>;
}

export function Ago({ time, seconds }: { time: string | null; seconds: number | null }) {
  if (time === null || seconds === null) return <>unknown</>;
  return (
    <time dateTime={time} title={utc(time)}>
      <Age seconds={seconds} /> ago
    </time>
  );
}
