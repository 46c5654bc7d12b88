import type { Engine } from "../api";
import { Age } from "../components/clock";
import { Badge } from "../components/labels";
import { Panel } from "../components/panel";
import { UsageChart } from "../components/usage-chart";
import { poolUse, type PoolUse, usageInWords } from "../view/live";
import type { Sample } from "../view/samples";

export function Pools({ engines, samples }: { engines: Engine[]; samples: readonly Sample[] }) {
  return (
    <Panel title="Connections in use">
      {engines.length === 0 ? (
        <p class="empty">No engine has been seen yet. An engine appears with its first connection.</p>
      ) : (
        <PoolsAndChart engines={engines} samples={samples} />
      )}
    </Panel>
  );
}

function PoolsAndChart({ engines, samples }: { engines: Engine[]; samples: readonly Sample[] }) {
  return (
    <div class="pools">
      <ul>
        {engines.map((engine) => (
          <Pool key={engine.name} use={poolUse(engine)} />
        ))}
      </ul>
      <UsageChart samples={samples} description={usageInWords(engines)} />
    </div>
  );
}

function Pool({ use }: { use: PoolUse }) {
  return (
    <li class={`pool ${use.alarm}`}>
      <h3>
        {use.name} <small>{[use.dialect, use.pool].filter(Boolean).join(", ")}</small>
      </h3>
      <p class="value">
        {use.text} {use.max === null ? <small>no limit known</small> : null} {alarmBadge[use.alarm]}
      </p>
      <div class="bar" aria-hidden="true">
        <span class="used" style={{ width: `${use.usedShare}%` }} />
        <span class="idle" style={{ width: `${use.idleShare}%` }} />
      </div>
      <p class="note">
        {use.rest}
        {use.oldest_age_seconds === null ? null : (
          <>
            {use.rest === "" ? "" : ", "}oldest <Age seconds={use.oldest_age_seconds} />
          </>
        )}
      </p>
    </li>
  );
}

const alarmBadge = {
  none: null,
  near: <Badge tone="warning">near limit</Badge>,
  full: <Badge tone="error">full</Badge>,
};
