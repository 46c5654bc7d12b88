import { describe, expect, test } from "vitest";

import { addSample, chart, engineNames, MAX_SAMPLES, type Sample } from "../src/view/samples";
import { engine, live } from "./facts";

const at = (seconds: number, used = 1) =>
  live({ now: new Date(seconds * 1000).toISOString(), engines: [engine({ used })] });

const after = (...times: number[]): Sample[] =>
  times.reduce<Sample[]>((samples, time) => addSample(samples, at(time)), []);

describe("addSample", () => {
  test("keeps what was seen", () => {
    expect(after(100, 102).map((sample) => sample.engines)).toEqual([
      { default: { used: 1, max: 15 } },
      { default: { used: 1, max: 15 } },
    ]);
  });

  test("forgets the oldest beyond its limit", () => {
    const times = Array.from({ length: MAX_SAMPLES + 5 }, (_none, index) => index);
    const samples = after(...times);
    expect([samples.length, samples[0]?.at]).toEqual([MAX_SAMPLES, 5]);
  });

  test("draws no line across a time in which the page heard nothing", () => {
    expect(after(100, 160).map((sample) => [sample.at, Object.keys(sample.engines).length])).toEqual([
      [100, 1],
      [101, 0],
      [160, 1],
    ]);
  });

  test("stays in order when the server's clock is put back", () => {
    expect(after(100, 110, 105).map((sample) => sample.at)).toEqual([100, 105]);
  });
});

test("engines are in the order of their names, whichever was seen first", () => {
  const seen = (...names: string[]) => live({ engines: names.map((name) => engine({ name })) });
  expect(engineNames(addSample(addSample([], seen("search")), { ...seen("default"), now: "2026-05-04T10:00:02Z" }))).toEqual([
    "default",
    "search",
  ]);
});

describe("chart", () => {
  test("ends now and leaves gaps where an engine was not seen", () => {
    const samples: Sample[] = [
      { at: 100, engines: { a: { used: 2, max: 4 } } },
      { at: 130, engines: { a: { used: 3, max: 4 }, b: { used: 9, max: null } } },
    ];
    expect(chart(samples, engineNames(samples))).toEqual({
      times: [-30, 0],
      used: [
        [2, 3],
        [null, 9],
      ],
      capacity: [
        [4, 4],
        [null, null],
      ],
      span: 60,
      top: 9,
    });
  });

  test("of nothing has a scale all the same", () => {
    expect(chart([], [])).toEqual({ times: [], used: [], capacity: [], span: 60, top: 1 });
  });

  test("grows with its history", () => {
    expect(chart(after(0, 10, 20, 30, 40, 50, 60, 70, 80), ["default"]).span).toBe(80);
  });
});
