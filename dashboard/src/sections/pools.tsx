import { Badge } from "../components/labels";
import { Panel } from "../components/panel";
import { addressOf } from "../router";
import { duration } from "../view/format";
import { type EngineUse, useInWords } from "../view/live";

export function Pools({ uses }: { uses: readonly EngineUse[] }) {
  return (
    <Panel title="Connections" href={addressOf(["pools"])}>
      {uses.length === 0 ? (
        <p class="empty">No engine has been seen yet. An engine appears with its first connection.</p>
      ) : (
        <ul class="pools">
          {uses.map((use) => (
            <PoolItem key={use.name} use={use} />
          ))}
        </ul>
      )}
    </Panel>
  );
}

function PoolItem({ use }: { use: EngineUse }) {
  return (
    <li class={`pool ${use.alarm}`}>
      <h3>
        {use.name} <small>{[use.dialect, use.pool].filter(Boolean).join(", ")}</small>
      </h3>
      <p class="value">
        {useInWords(use)} {use.max === null ? <small>no limit known</small> : null} {alarmBadge[use.alarm]}
      </p>
      <div class="bar" aria-hidden="true">
        <span class="used" style={{ width: `${use.usedShare}%` }} />
        <span class="idle" style={{ width: `${use.idleShare}%` }} />
      </div>
      <p class="note">
        {use.idle} idle, {use.waiting} waiting{use.oldest === null ? null : `, oldest ${duration(use.oldest)}`}
      </p>
    </li>
  );
}

const alarmBadge = {
  none: null,
  near: <Badge tone="warning">near limit</Badge>,
  full: <Badge tone="error">full</Badge>,
};
