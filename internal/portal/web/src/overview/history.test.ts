import { expect, test } from "vitest";
import { perInterval } from "./history";

test("records are counted by the interval that they are in, and older ones not at all", () => {
  const now = Date.parse("2026-01-01T12:00:00Z");
  const at = (secondsAgo: number) => ({ time: new Date(now - secondsAgo * 1000).toISOString() });
  const counts = perInterval([at(0), at(19), at(20), at(599), at(600), at(-5)], now);
  expect(counts).toHaveLength(30);
  expect(counts[29]).toBe(2);
  expect(counts[28]).toBe(1);
  expect(counts[0]).toBe(1);
  expect(counts.reduce((a, b) => a + b)).toBe(4);
});
