/** Used connections per engine, as steps, with a dashed line at each engine's capacity. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { duration } from "../view/format";
import { type Chart, chart, engineNames, type Sample } from "../view/samples";
import { seriesColour, useThemeChanges } from "./theme";

const HEIGHT = 200;

interface UsageChartProps {
  samples: readonly Sample[];
  description: string;
}

export function UsageChart({ samples, description }: UsageChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const theme = useThemeChanges();
  const names = engineNames(samples);
  const drawn = useMemo(() => chart(samples, names), [samples]);
  const latest = useRef(drawn);
  latest.current = drawn;

  useEffect(() => {
    if (box.current === null) return undefined;
    const made = new uPlot(
      options(names, latest, box.current.clientWidth, setPointed),
      plotData(latest.current),
      box.current,
    );
    plot.current = made;
    const resized = keepWidth(made, box.current);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [names.join("\n"), theme]);

  useEffect(() => {
    plot.current?.setData(plotData(drawn));
  }, [drawn]);

  return (
    <figure class="chart">
      <div ref={box} role="img" aria-label={description} />
      <Legend names={names} drawn={drawn} index={pointed ?? drawn.times.length - 1} />
    </figure>
  );
}

function Legend({ names, drawn, index }: { names: string[]; drawn: Chart; index: number }) {
  return (
    <figcaption>
      <span class="when">{when(drawn.times[index] ?? 0)}</span>
      {names.map((name, series) => (
        <span key={name} class="legend">
          <svg class={`swatch series-${series % 6}`} viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
            <rect width="10" height="10" rx="2" />
          </svg>
          {name} <b>{drawn.used[series]?.[index] ?? "–"}</b>
          <small> of {drawn.capacity[series]?.[index] ?? "no limit"}</small>
        </span>
      ))}
    </figcaption>
  );
}

const when = (time: number): string => (time > -1 ? "now" : `${duration(-time)} ago`);

const plotData = ({ times, used, capacity }: Chart): uPlot.AlignedData => [times, ...used, ...capacity];

function keepWidth(made: uPlot, box: HTMLElement): ResizeObserver {
  const observer = new ResizeObserver(() => {
    made.setSize({ width: box.clientWidth, height: HEIGHT });
  });
  observer.observe(box);
  return observer;
}

function options(
  names: string[],
  latest: { current: Chart },
  width: number,
  point: (index: number | null) => void,
): uPlot.Options {
  const css = getComputedStyle(document.documentElement);
  const ink = css.getPropertyValue("--quiet").trim();
  const grid = { stroke: css.getPropertyValue("--line").trim(), width: 1 };
  const font = `12px ${css.getPropertyValue("--sans").trim()}`;
  const axis = { stroke: ink, font, grid, ticks: { show: false } };
  const stepped = uPlot.paths.stepped?.({ align: 1 });
  return {
    width,
    height: HEIGHT,
    padding: [8, 12, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: {
      x: { time: false, range: () => [-latest.current.span, 0] },
      y: { range: () => [0, latest.current.top * 1.1] },
    },
    axes: [
      { ...axis, size: 28, space: 70, incrs: [10, 30, 60, 120, 300, 600], values: (_plot, splits) => splits.map(tick) },
      { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000] },
    ],
    series: [
      {},
      ...names.map((_name, index) => ({
        stroke: seriesColour(css, index),
        width: 2,
        points: { show: false },
        ...(stepped && { paths: stepped }),
      })),
      ...names.map((_name, index) => ({
        stroke: seriesColour(css, index),
        width: 1,
        dash: [4, 4],
        points: { show: false },
      })),
    ],
    hooks: {
      setCursor: [
        (plot) => {
          point(plot.cursor.idx ?? null);
        },
      ],
    },
  };
}

function tick(seconds: number): string {
  if (seconds === 0) return "now";
  return seconds % 60 === 0 ? `−${-seconds / 60} min` : `−${-seconds} s`;
}
