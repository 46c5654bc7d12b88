/** What is asked for only when a row is opened: where it was begun, and where its holder is now. */

import type { Received } from "../api";
import { INTERVAL_MS, usePolling } from "../polling";
import type { OneHeld } from "../shapes";
import { Stack } from "./stack";

const NOBODY = "Nobody is at work with it: its thread is over, or elsewhere.";

interface HeldDetailProps {
  id: string;
  fetchOne: (id: string, signal: AbortSignal) => Promise<Received<OneHeld>>;
  /** What the first stack is of. */
  title: string;
}

export function HeldDetail({ id, fetchOne, title }: HeldDetailProps) {
  const {
    state: { data, phase, problem },
  } = usePolling<OneHeld>((signal) => fetchOne(id, signal), INTERVAL_MS, id);
  if (data === null)
    return <p class="quiet">{phase === "loading" ? "Asking for its stacks." : `No stacks: ${problem ?? "gone"}.`}</p>;
  const { stack, now, doing, sources } = data.held;
  return (
    <div class="stacks">
      <Stack title={title} frames={stack} sources={sources} />
      <Stack title={doing === null ? "Now at" : `Now ${doing}, at`} frames={now} sources={sources} empty={NOBODY} />
    </div>
  );
}
