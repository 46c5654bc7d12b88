import type { TimelineEvent } from "../shapes";
import { seconds } from "./numbers";

const bad = new Set(["failed", "collected", "found"]);
const good = new Set(["committed", "returned", "closed"]);

export function eventTone({ event }: Pick<TimelineEvent, "event">): "bad" | "good" | "plain" {
  if (bad.has(event)) return "bad";
  return good.has(event) ? "good" : "plain";
}

/** "+0.3 s"; where only the order is known, nothing. */
export const eventWhen = ({ seconds: after }: Pick<TimelineEvent, "seconds">): string =>
  after === null ? "" : `+${seconds(after)}`;
