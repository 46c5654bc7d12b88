import type { ComponentChildren } from "preact";
import { useErrorBoundary } from "preact/hooks";

/** A page that cannot show what it was given says so, and leaves the way to the others open. */
export function Boundary({ children }: { children: ComponentChildren }) {
  const [error, forget] = useErrorBoundary() as [unknown, () => void];
  if (error === undefined) return <>{children}</>;
  return (
    <section class="notice">
      <h2>This page cannot be shown</h2>
      <p>
        The server answered with something that this page does not understand. It may be of another version: workers
        that were started before an update answer as they always did.
      </p>
      <p>
        <code>{error instanceof Error ? error.message : "unknown"}</code>
      </p>
      <p>
        <button type="button" onClick={forget}>
          Try again
        </button>
      </p>
    </section>
  );
}
