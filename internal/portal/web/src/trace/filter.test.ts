import { expect, test } from "vitest";
import type { TraceRecord } from "../api/trace";
import { duration, everything, matches } from "./filter";

const record: TraceRecord = {
  id: 1, time: "2026-01-01T00:00:00Z", durationNs: 1, kind: "delivery", operationName: "EventNotDelivered", hub: "Chat", userId: "alice",
  status: 401, code: "handler_unauthorized", level: "Error", category: "HttpRequestLogs", hasContent: true,
};

test.each([
  [{}, true],
  [{ hub: "chat" }, true],
  [{ hub: "other" }, false],
  [{ kind: "delivery" }, true],
  [{ kind: "connection" }, false],
  [{ faults: true }, true],
  [{ text: "ALICE" }, true],
  [{ text: "401" }, true],
  [{ text: "unauthorized" }, true],
  [{ text: "bob" }, false],
])("the filter %j lets the record through: %s", (some, want) => {
  expect(matches({ ...everything, ...some }, record)).toBe(want);
});

test("what was delivered is no fault", () => {
  expect(matches({ ...everything, faults: true }, { ...record, code: "delivered" })).toBe(false);
  expect(matches({ ...everything, faults: true }, { ...record, code: "" })).toBe(false);
});

test.each([[500, "1 µs"], [999_000, "999 µs"], [1_500_000, "1.5 ms"], [42_000_000, "42 ms"], [2_500_000_000, "2.5 s"]])("%i ns is %s", (ns, want) => {
  expect(duration(ns)).toBe(want);
});
