import type { Live } from "../shapes";
import { counted } from "./format";

/** "From 4 workers on 1 host, heard within 2 s." */
export function coverage({ workers, omitted }: Pick<Live, "workers" | "omitted">): string {
  if (workers.length === 0) return "No worker has reported yet.";
  const hosts = new Set(workers.map(({ host }) => host)).size;
  const from = `Told by ${counted(workers.length, "worker")} on ${counted(hosts, "host")}.`;
  const left = omitted.checkouts + omitted.sessions;
  return left === 0 ? from : `${from} ${left} of the youngest check-outs and sessions are left out.`;
}
