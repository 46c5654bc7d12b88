import { useMemo } from "preact/hooks";

import { Panel } from "../components/panel";
import { TimeChart } from "../components/time-chart";
import type { Outcome, Series } from "../shapes";
import { type Chart, isEmpty, type Line, perMinute, timesOf, told, total, type Values } from "../view/chart";
import { counted } from "../view/format";
import { type EngineUse, usageInWords } from "../view/live";
import { number } from "../view/numbers";

export function Charts({ series, uses }: { series: Series; uses: EngineUse[] }) {
  const charts = useMemo(() => chartsOf(series), [series]);
  return (
    <div class="charts">
      <ChartPanel title="Connections in use" chart={charts.connections} description={usageInWords(uses)} />
      <ChartPanel title="Open sessions" chart={charts.sessions} description="Sessions with a transaction, over time." />
      <ChartPanel
        title="Transactions per minute"
        chart={charts.transactions}
        description={`Transactions by outcome: ${outcomesInWords(series)}.`}
      />
      <ChartPanel
        title="Findings per minute"
        chart={charts.findings}
        description={`${counted(total(series.findings), "occurrence")} of findings in this time.`}
      />
    </div>
  );
}

function ChartPanel({ title, chart, description }: { title: string; chart: Chart; description: string }) {
  return (
    <Panel title={title} level={3}>
      {chart.lines.every(({ values }) => isEmpty(values)) ? (
        <p class="empty">No history yet: a point is kept every few seconds.</p>
      ) : (
        <TimeChart chart={chart} description={description} />
      )}
    </Panel>
  );
}

const outcomes: readonly [Outcome, string, number][] = [
  ["commit", "committed", 2],
  ["rollback", "rolled back", 5],
  ["rollback_on_close", "rolled back on close", 1],
  ["error", "failed", 6],
  ["garbage_collected", "garbage collected", 3],
];

function chartsOf(series: Series): Record<"connections" | "sessions" | "transactions" | "findings", Chart> {
  const { step_seconds: step, start, sessions, findings, transactions } = series;
  const times = timesOf(start, step, sessions.length - 1);
  const end = times.at(-1) ?? 0;
  const chart = (lines: readonly Line[]): Chart => ({
    times,
    end,
    lines: lines.map((line) => ({ ...line, values: told(line.values) })),
  });
  const steps = (name: string, values: Values, colour: number): Line => ({ name, values, colour, style: "steps" });
  return {
    connections: chart(connectionLines(series)),
    sessions: chart([steps("sessions", sessions, 0)]),
    transactions: chart(
      outcomes
        .filter(([outcome]) => outcome === "commit" || total(transactions[outcome]) > 0)
        .map(([outcome, name, colour]) => steps(name, perMinute(transactions[outcome], step), colour)),
    ),
    findings: chart([{ name: "findings", values: perMinute(findings, step), colour: 6, style: "bars" }]),
  };
}

function connectionLines({ engines }: Series): Line[] {
  const used = engines.map(
    (engine, colour): Line => ({
      name: engine.name,
      values: engine.used,
      style: "steps",
      colour: colour % 6,
      note: (index) => `of ${engine.max[index] == null ? "no limit" : number(engine.max[index])}`,
    }),
  );
  const limits = engines.map(
    (engine, colour): Line => ({ name: `${engine.name} limit`, values: engine.max, style: "limit", colour: colour % 6 }),
  );
  return [...used, ...limits];
}

const outcomesInWords = ({ transactions }: Series): string =>
  outcomes.map(([outcome, name]) => `${total(transactions[outcome])} ${name}`).join(", ");
