import type { Received } from "../api";
import type { Fleet, FleetWorker } from "../shapes";
import { sinceOf } from "./format";
import type { Row } from "./live";

/** Share of a core that a process computes at least where it says something how much of that is the watch's. */
const BUSY = 0.25;

export interface Cost {
  /** CPU seconds of the watch. */
  seconds: number;
  /** Share of a core that the watch took, per process and since it began; null where that is not known. */
  ofCore: number | null;
  /** Share of what the processes computed; null where they were idle, and computed little else. */
  ofWork: number | null;
}

export interface WorkerRow extends Row<FleetWorker> {
  heard: number;
  started: number;
  cost: Cost;
}

export interface Host {
  host: string;
  rows: WorkerRow[];
}

export function hosts(answer: Received<Fleet>): Host[] {
  const byHost = new Map<string, WorkerRow[]>();
  for (const worker of answer.workers) {
    const row = {
      ...worker,
      key: `${worker.host} ${worker.pid} ${worker.started_at}`,
      heard: sinceOf(answer, worker.seen_at),
      started: sinceOf(answer, worker.started_at),
      cost: costOf([worker]),
    };
    byHost.set(worker.host, [...(byHost.get(worker.host) ?? []), row]);
  }
  return [...byHost]
    .sort(([one], [other]) => one.localeCompare(other))
    .map(([host, rows]) => ({ host, rows: rows.sort(liveFirst) }));
}

const liveFirst = (one: WorkerRow, other: WorkerRow): number =>
  Number(other.live) - Number(one.live) || one.pid - other.pid;

const upFor = (worker: FleetWorker): number => (Date.parse(worker.seen_at) - Date.parse(worker.started_at)) / 1000;

export function costOf(workers: readonly FleetWorker[]): Cost {
  const sum = (part: (worker: FleetWorker) => number): number => workers.reduce((all, worker) => all + part(worker), 0);
  const [seconds, computed, up] = [sum((each) => each.self_seconds), sum((each) => each.cpu_seconds), sum(upFor)];
  return {
    seconds,
    ofCore: up > 0 ? seconds / up : null,
    ofWork: up > 0 && computed >= BUSY * up ? seconds / computed : null,
  };
}

export interface FleetTotals {
  live: number;
  silent: number;
  hosts: number;
  dropped: number;
  errors: number;
  /** Workers whose watch has stepped aside. */
  aside: number;
  cost: Cost;
}

export function fleetTotals(workers: readonly FleetWorker[]): FleetTotals {
  const live = workers.filter((worker) => worker.live);
  const sum = (part: (worker: FleetWorker) => number): number => live.reduce((all, worker) => all + part(worker), 0);
  return {
    live: live.length,
    silent: workers.length - live.length,
    hosts: new Set(live.map(({ host }) => host)).size,
    dropped: sum((worker) => worker.dropped),
    errors: sum((worker) => worker.internal_errors),
    aside: live.filter(({ watching }) => !watching).length,
    cost: costOf(live),
  };
}
