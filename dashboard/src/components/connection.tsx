/** How the page stands with the server, and what is shown in place of data it does not have. */

import { delayAfter, type Phase, type Polled } from "../polling";
import { duration } from "../view/format";
import { Age, Clock } from "./clock";

const sentences: Record<Exclude<Phase, "live">, string> = {
  loading: "Connecting",
  disconnected: "Disconnected",
  missing: "Not there",
  locked: "Locked out",
};

interface ConnectionProps {
  state: Polled<unknown>;
  interval: number;
  askNow: () => void;
}

export function Connection({ state, interval, askNow }: ConnectionProps) {
  const { phase } = state;
  return (
    <div class={`connection ${phase}`}>
      <p role="status">
        <span class="dot" aria-hidden="true" /> {phase === "live" ? `Live, every ${interval / 1000} s` : sentences[phase]}
      </p>
      {phase === "disconnected" ? <Trouble state={state} interval={interval} askNow={askNow} /> : null}
    </div>
  );
}

/** Outside of the status, whose reader should hear of the change once and not of each second. */
function Trouble({ state, interval, askNow }: ConnectionProps) {
  return (
    <>
      <p>
        {state.heardAt === null ? "never heard" : <LastHeard at={state.heardAt} />}: {state.problem}. Next try within{" "}
        {duration(delayAfter(state, interval) / 1000)}.
      </p>
      <button type="button" onClick={askNow}>
        Try now
      </button>
    </>
  );
}

function LastHeard({ at }: { at: number }) {
  return (
    <Clock running>
      last heard <Age since={at} /> ago
    </Clock>
  );
}

/** Said where the answer tells of one process only. */
export function StoreProblem({ problem }: { problem: string | null }) {
  if (problem === null) return null;
  return (
    <p class="store-problem" role="status">
      <b>The store cannot be read</b>, so this is the process that answered, and no other: {problem}
    </p>
  );
}

export function Loading() {
  return (
    <div class="content" aria-busy="true">
      <p class="hidden">Loading</p>
      <div class="figures" aria-hidden="true">
        <div class="figure ghost" />
        <div class="figure ghost" />
        <div class="figure ghost" />
        <div class="figure ghost" />
      </div>
      <div class="panel ghost tall" aria-hidden="true" />
    </div>
  );
}

export function NoAnswerYet() {
  return (
    <section class="notice">
      <h2>No answer yet</h2>
      <p>
        The watcher has not answered since this page was opened. If every worker waits for a connection, none is left to
        answer: the standalone server, <code>flask-sessionwatch serve</code>, shows this page from the store alone.
      </p>
    </section>
  );
}

export function NotFound() {
  return (
    <section class="notice">
      <h2>Not there</h2>
      <p>
        Nothing is kept under this address. A finding is forgotten when its workers are gone and the store has no room,
        and all are when the store is deleted.
      </p>
      <p>
        <a class="button" href="#findings">
          All findings
        </a>
      </p>
    </section>
  );
}

export function LockedOut({ waitSeconds }: { waitSeconds: number }) {
  return (
    <section class="notice">
      <h2>Locked out</h2>
      {waitSeconds > 0 ? (
        <p>
          Too many wrong tokens came from your address, so the watcher does not answer it for {duration(waitSeconds)}.
        </p>
      ) : (
        <p>The watcher does not answer strangers. Your login has ended, or there was none.</p>
      )}
      <p>
        <a class="button" href={`login${location.hash}`}>
          Log in
        </a>
      </p>
      <p class="quiet">
        The token is the application's SESSIONWATCH_TOKEN. Without one, the watcher answers only in debug mode and to
        this machine itself.
      </p>
    </section>
  );
}
