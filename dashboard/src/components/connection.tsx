/** How the page stands with the server, and what is shown in place of data it does not have. */

import { delayAfter, INTERVAL_MS, type Phase, type Polled } from "../polling";
import { duration } from "../view/format";
import { Age, Clock } from "./clock";

const sentences: Record<Phase, string> = {
  loading: "Connecting",
  live: `Live, every ${INTERVAL_MS / 1000} s`,
  disconnected: "Disconnected",
  locked: "Locked out",
};

export function Connection({ state, askNow }: { state: Polled<unknown>; askNow: () => void }) {
  return (
    <div class={`connection ${state.phase}`}>
      <p role="status">
        <span class="dot" aria-hidden="true" /> {sentences[state.phase]}
      </p>
      {state.phase === "disconnected" ? <Trouble state={state} askNow={askNow} /> : null}
    </div>
  );
}

/** Outside of the status, whose reader should hear of the change once and not of each second. */
function Trouble({ state, askNow }: { state: Polled<unknown>; askNow: () => void }) {
  return (
    <>
      <p>
        {state.heardAt === null ? "never heard" : <LastHeard at={state.heardAt} />}: {state.problem}. Next try within{" "}
        {duration(delayAfter(state) / 1000)}.
      </p>
      <button type="button" onClick={askNow}>
        Try now
      </button>
    </>
  );
}

function LastHeard({ at }: { at: number }) {
  return (
    <Clock heardAt={at} running>
      last heard <Age seconds={0} /> ago
    </Clock>
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

export function LockedOut() {
  return (
    <section class="notice">
      <h2>Locked out</h2>
      <p>The watcher does not answer strangers. Your login has ended, or there was none.</p>
      <p>
        <a class="button" href="login">
          Log in
        </a>
      </p>
      <p class="quiet">
        The password is the application's SESSIONWATCH_TOKEN. Without a token, the watcher answers only in debug mode
        and to this machine itself.
      </p>
    </section>
  );
}
