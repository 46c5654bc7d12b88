import type { Live } from "../shapes";
import { coverage } from "../view/coverage";

/** What this page shows, and so what it does not. */
export function Coverage({ live }: { live: Live }) {
  return (
    <p class="coverage quiet">
      {coverage(live)} <a href="#fleet">All workers</a>
    </p>
  );
}
