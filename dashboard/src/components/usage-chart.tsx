/** Used connections per engine, as steps, with a dashed line at each engine's capacity. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { duration } from "../view/format";
import { type Chart, chart, engineNames, type Sample } from "../view/samples";
import { seriesColour, useThemeChanges } from "./theme";

type Size = Pick<uPlot.Options, "width" | "height">;

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
      options(names, latest, sizeOf(box.current), setPointed),
      plotData(latest.current),
      box.current,
    );
    plot.current = made;
    const resized = keepSize(made, box.current);
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
      <div ref={box} class="plot" role="img" aria-label={description} />
      <Legend names={names} drawn={drawn} pointed={pointed} />
    </figure>
  );
}

/** What was so at the moment that is pointed at, or is so now. */
function Legend({ names, drawn, pointed }: { names: string[]; drawn: Chart; pointed: number | null }) {
  const index = pointed ?? drawn.times.length - 1;
  const secondsAgo = -(drawn.times[index] ?? 0);
  return (
    <figcaption>
      {names.map((name, series) => (
        <span key={name} class="legend">
          <svg class={`swatch series-${series % 6}`} viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
            <rect width="10" height="10" rx="2" />
          </svg>
          {name} <b>{drawn.used[series]?.[index] ?? "–"}</b>
          <small> of {drawn.capacity[series]?.[index] ?? "no limit"}</small>
        </span>
      ))}
      {secondsAgo > 0 ? <span class="quiet">{duration(secondsAgo)} ago</span> : null}
    </figcaption>
  );
}

const plotData = ({ times, used, capacity }: Chart): uPlot.AlignedData => [times, ...used, ...capacity];

const sizeOf = (box: HTMLElement): Size => ({ width: box.clientWidth, height: box.clientHeight });

function keepSize(made: uPlot, box: HTMLElement): ResizeObserver {
  const observer = new ResizeObserver(() => {
    made.setSize(sizeOf(box));
  });
  observer.observe(box);
  return observer;
}

function options(
  names: string[],
  latest: { current: Chart },
  size: Size,
  point: (index: number | null) => void,
): uPlot.Options {
  const css = getComputedStyle(document.documentElement);
  const ink = css.getPropertyValue("--quiet").trim();
  const grid = { stroke: css.getPropertyValue("--line").trim(), width: 1 };
  const font = `12px ${css.getPropertyValue("--sans").trim()}`;
  const axis = { stroke: ink, font, grid, ticks: { show: false } };
  const stepped = uPlot.paths.stepped?.({ align: 1 });
  return {
    ...size,
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
