import type { Received } from "../api";
import type { Fleet, FleetWorker } from "../shapes";
import { sinceOf } from "./format";
import type { Row } from "./live";

export interface WorkerRow extends Row<FleetWorker> {
  heard: number;
  started: number;
  /** Share of its CPU time that the watch took; null where it has not used any. */
  share: number | null;
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
      share: shareOf(worker.self_seconds, worker.cpu_seconds),
    };
    byHost.set(worker.host, [...(byHost.get(worker.host) ?? []), row]);
  }
  return [...byHost]
    .sort(([one], [other]) => one.localeCompare(other))
    .map(([host, rows]) => ({ host, rows: rows.sort(liveFirst) }));
}

const liveFirst = (one: WorkerRow, other: WorkerRow): number =>
  Number(other.live) - Number(one.live) || one.pid - other.pid;

const shareOf = (self: number, all: number): number | null => (all > 0 ? self / all : null);

export interface FleetTotals {
  live: number;
  silent: number;
  hosts: number;
  dropped: number;
  errors: number;
  /** Workers whose watch has stepped aside. */
  aside: number;
  selfSeconds: number;
  cpuSeconds: number;
  share: number | null;
}

export function fleetTotals(workers: readonly FleetWorker[]): FleetTotals {
  const live = workers.filter((worker) => worker.live);
  const sum = (part: (worker: FleetWorker) => number): number => live.reduce((all, worker) => all + part(worker), 0);
  const selfSeconds = sum((worker) => worker.self_seconds);
  const cpuSeconds = sum((worker) => worker.cpu_seconds);
  return {
    live: live.length,
    silent: workers.length - live.length,
    hosts: new Set(live.map(({ host }) => host)).size,
    dropped: sum((worker) => worker.dropped),
    errors: sum((worker) => worker.internal_errors),
    aside: live.filter(({ watching }) => !watching).length,
    selfSeconds,
    cpuSeconds,
    share: shareOf(selfSeconds, cpuSeconds),
  };
}
