import { expect, test } from "vitest";

import { details } from "../src/view/details";
import { oneFinding } from "./facts";

const NOW = { filename: "/srv/shop/payment.py", lineno: 29, function: "call" };
const shown = (given: Record<string, unknown>, resolved = false) =>
  details(oneFinding({ details: given, resolved })).map(({ name, value }) => [name, value]);

test("a held connection is told in words, and once", () => {
  const held = {
    engine: "default",
    thread: "gthread-3",
    held_seconds: 4.879,
    statements: 16,
    now: NOW,
    doing: "in an HTTP call (urllib)",
    lines: ["now in an HTTP call (urllib) at shop/payment.py:29 in call"],
    idle_seconds: 0.0304,
  };
  expect(shown(held)).toEqual([
    ["engine", "default"],
    ["thread", "gthread-3"],
    ["held", "4.8 s"],
    ["statements", "16"],
    ["idle", "30 ms"],
    ["now", { what: "in an HTTP call (urllib)", site: NOW }],
  ]);
});

test("where the thread of a resolved finding was is past", () => {
  expect(shown({ now: NOW, doing: null }, true)).toEqual([["was", { what: "", site: NOW }]]);
});

test("a thread without a line of the application is told by what it does", () => {
  expect(shown({ now: null, doing: "asleep", lines: ["now asleep"] })).toEqual([["now", "asleep"]]);
});

test("a number of objects is not taken for what was lost", () => {
  expect(shown({ objects: 10_000, limit: 9_000 })).toEqual([
    ["objects", "10000"],
    ["limit", "9000"],
  ]);
});

test("the holders of a pool are a list, which their lines do not repeat", () => {
  const holders = ["GET /a, held 1.0 s", "GET /b, held 2.0 s"];
  expect(shown({ holders, lines: holders.map((holder) => `held by ${holder}`) })).toEqual([["held by", holders]]);
});

test("lines that tell more are a list at the end", () => {
  expect(shown({ lines: ["used at shop/cart.py:3 in get"], engine: "default" })).toEqual([
    ["engine", "default"],
    ["also", ["used at shop/cart.py:3 in get"]],
  ]);
});

test("what is unknown or empty is left out", () => {
  expect(shown({ status: null, objects: {}, now: null, lines: [], tables: [], note: "" })).toEqual([]);
});

test("lost writes are told with the answer that was given all the same", () => {
  expect(shown({ status: 201, writes: 0, objects: { Item: 2, Order: 1 } })).toEqual([
    ["answered", "201"],
    ["writes", "0"],
    ["unsaved", "2 Item, 1 Order"],
  ]);
});

test("details of somebody's own rule may have any shape", () => {
  expect(
    shown({ cart_total: 12.5, paid: false, rows: [1, "a", { b: null }], by: { user: 7, tags: ["x"] }, lines: "odd" }),
  ).toEqual([
    ["cart total", "12.5"],
    ["paid", "false"],
    ["rows", ["1", "a", '{"b":null}']],
    ["by", 'user: 7, tags: ["x"]'],
    ["also", "odd"],
  ]);
});
