import { isFault, type TraceRecord } from "../api/trace";

/** A Filter is what the user wants to see; empty fields let everything through. */
export interface Filter {
  text: string;
  hub: string;
  kind: string;
  faults: boolean;
}

export const everything: Filter = { text: "", hub: "", kind: "", faults: false };

/** matches looks for the text in whatever the table or the pane shows of a record. */
export function matches(filter: Filter, r: TraceRecord): boolean {
  if (filter.faults && !isFault(r)) return false;
  if (filter.kind !== "" && r.kind !== filter.kind) return false;
  if (filter.hub !== "" && r.hub?.toLowerCase() !== filter.hub.toLowerCase()) return false;
  if (filter.text === "") return true;
  const text = filter.text.toLowerCase();
  return [r.operationName, r.hub, r.event, r.userId, r.connectionId, r.code, r.message, r.detail, r.urlTemplate, r.traceId, r.url, String(r.status ?? "")].some((field) =>
    field?.toLowerCase().includes(text),
  );
}

/** duration words nanoseconds. */
export function duration(ns: number): string {
  if (ns < 1_000_000) return `${Math.round(ns / 1_000)} µs`;
  if (ns < 1_000_000_000) return `${(ns / 1_000_000).toFixed(ns < 10_000_000 ? 1 : 0)} ms`;
  return `${(ns / 1_000_000_000).toFixed(1)} s`;
}
