/** Lines or bars over time. Where nobody looked there is a gap. */

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { duration, localTime } from "../view/format";
import { number } from "../view/numbers";
import { type Chart, type Line, topOf } from "../view/chart";
import { seriesColour, useThemeChanges } from "./theme";

type Size = Pick<uPlot.Options, "width" | "height">;

interface TimeChartProps {
  chart: Chart;
  /** The chart in a sentence, for those who do not see it. */
  description: string;
}

export function TimeChart({ chart, description }: TimeChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const theme = useThemeChanges();
  const latest = useRef(chart);
  latest.current = chart;
  const shape = chart.lines.map(({ name, style, colour }) => `${name} ${style} ${colour}`).join("\n");

  useEffect(() => {
    if (box.current === null) return undefined;
    const made = new uPlot(options(latest, sizeOf(box.current), setPointed), plotData(latest.current), box.current);
    plot.current = made;
    const resized = keepSize(made, box.current);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [shape, theme]);

  useEffect(() => {
    plot.current?.setData(plotData(chart));
  }, [chart]);

  return (
    <figure class="chart">
      <div ref={box} class="plot" role="img" aria-label={description} />
      <Legend chart={chart} pointed={pointed} />
    </figure>
  );
}

/** What was so at the moment that is pointed at, or was so last. */
function Legend({ chart, pointed }: { chart: Chart; pointed: number | null }) {
  const index = pointed ?? chart.times.length - 1;
  const at = chart.times[index];
  return (
    <figcaption>
      {chart.lines
        .filter(({ style }) => style !== "limit")
        .map((line) => (
          <span key={line.name} class="legend">
            <svg class={`swatch series-${line.colour}`} viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
              <rect width="10" height="10" rx="2" />
            </svg>
            {line.name} <b>{number(line.values[index])}</b>
            {line.note === undefined ? null : <small> {line.note(index)}</small>}
          </span>
        ))}
      <span class="quiet when">
        {pointed === null || at === undefined ? "" : `${localTime(at)}, ${duration(chart.end - at)} ago`}
      </span>
    </figcaption>
  );
}

const plotData = ({ times, end, lines }: Chart): uPlot.AlignedData => [
  times.map((time) => time - end),
  ...lines.map(({ values }) => values as (number | null)[]),
];

const sizeOf = (box: HTMLElement): Size => ({ width: box.clientWidth, height: box.clientHeight });

function keepSize(made: uPlot, box: HTMLElement): ResizeObserver {
  const observer = new ResizeObserver(() => {
    made.setSize(sizeOf(box));
  });
  observer.observe(box);
  return observer;
}

function options(latest: { current: Chart }, size: Size, point: (index: number | null) => void): uPlot.Options {
  const css = getComputedStyle(document.documentElement);
  const ink = css.getPropertyValue("--quiet").trim();
  const grid = { stroke: css.getPropertyValue("--line").trim(), width: 1 };
  const font = `12px ${css.getPropertyValue("--sans").trim()}`;
  const axis = { stroke: ink, font, grid, ticks: { show: false } };
  return {
    ...size,
    padding: [8, 12, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { time: false, range: () => [-spanOf(latest.current), 0] },
      y: { range: () => [0, topOf(latest.current) * 1.1] },
    },
    axes: [
      {
        ...axis,
        size: 28,
        space: 64,
        incrs: [60, 180, 300, 600, 1200, 3600, 7200],
        values: (_plot, splits) => splits.map(tick),
      },
      { ...axis, size: 44, space: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10_000, 50_000] },
    ],
    series: [{}, ...latest.current.lines.map((line) => seriesOf(line, css))],
    hooks: {
      setCursor: [
        (plot) => {
          point(plot.cursor.left !== undefined && plot.cursor.left >= 0 ? (plot.cursor.idx ?? null) : null);
        },
      ],
    },
  };
}

const spanOf = ({ times, end }: Chart): number => Math.max(60, end - (times[0] ?? end));

function seriesOf({ style, colour }: Line, css: CSSStyleDeclaration): uPlot.Series {
  const stroke = seriesColour(css, colour);
  const common = { stroke, points: { show: false } };
  if (style === "limit") return { ...common, width: 1, dash: [4, 4] };
  if (style === "bars") {
    const paths = uPlot.paths.bars?.({ size: [0.7, 24], align: 1 });
    return { ...common, width: 0, fill: stroke, ...(paths && { paths }) };
  }
  const paths = uPlot.paths.stepped?.({ align: 1 });
  return { ...common, width: 2, fill: `${stroke}18`, ...(paths && { paths }) };
}

function tick(seconds: number): string {
  if (seconds === 0) return "now";
  return seconds % 3600 === 0 ? `−${-seconds / 3600} h` : `−${-seconds / 60} min`;
}
