/** Shares and distributions, as bars; what they show is told in words as well. */

import type { Histogram } from "../shapes";
import { histogramRows } from "../view/histogram";
import { counted } from "../view/format";
import { number, percent } from "../view/numbers";

export interface Part {
  /** A name of the style sheet's. */
  kind: string;
  share: number;
}

/** @param parts shares of 1 */
export function Bar({ parts }: { parts: readonly Part[] }) {
  return (
    <div class="bar" aria-hidden="true">
      {parts.map(({ kind, share }) => (
        <span key={kind} class={kind} style={{ width: `${Math.min(100, share * 100)}%` }} />
      ))}
    </div>
  );
}

export function ShareBar({ share }: { share: number }) {
  return (
    <span class="share">
      <span>{percent(share)}</span>
      <Bar parts={[{ kind: "used", share }]} />
    </span>
  );
}

/** How long something took, how often: a row per range of time that occurred. */
export function Distribution({ title, histogram }: { title: string; histogram: Histogram }) {
  const rows = histogramRows(histogram);
  const all = histogram.counts.reduce((sum, count) => sum + count, 0);
  return (
    <section class="distribution">
      <h3>
        {title} <small>{counted(all, "time")}</small>
      </h3>
      {all === 0 ? (
        <p class="quiet">None yet.</p>
      ) : (
        <dl>
          {rows.map(({ range, count, share }) => (
            <div key={range}>
              <dt>{range}</dt>
              <dd>
                <Bar parts={[{ kind: "used", share }]} />
                <span class="number">{number(count)}</span>
              </dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  );
}
