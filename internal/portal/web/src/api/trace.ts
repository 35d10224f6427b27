import { EventSourceParserStream } from "eventsource-parser/stream";
import { version } from "./arm";
import type { Client } from "./client";

export interface Stage {
  name: string;
  outcome: "ok" | "failed" | "skipped";
  durationNs: number;
  detail?: string;
}

/** A TraceRecord is one thing that happened, as the service tells it. */
export interface TraceRecord {
  id: number;
  time: string;
  durationNs: number;
  kind: string;
  operationName: string;
  hub?: string;
  connectionId?: string;
  userId?: string;
  group?: string;
  event?: string;
  eventId?: string;
  callerIpAddress?: string;
  httpMethod?: string;
  routeTemplate?: string;
  url?: string;
  traceId?: string;
  urlTemplate?: string;
  audience?: string;
  claims?: Record<string, unknown>;
  stages?: Stage[];
  status?: number;
  answer?: string;
  attempts?: number;
  replayOf?: number;
  synthetic?: boolean;
  code: string;
  detail?: string;
  level: "Debug" | "Informational" | "Warning" | "Error";
  category: string;
  message?: string;
  sentence?: string;
  fix?: string;
  hasContent: boolean;
}

/** isFault tells whether a record reports something that did not go as it should. */
export function isFault(record: TraceRecord): boolean {
  return record.code !== "" && record.code !== "delivered";
}

export interface Comparison {
  original: TraceRecord;
  replayed: TraceRecord;
  answer: { status: number; contentType?: string; body?: string };
  sameStatus: boolean;
  sameContentType: boolean;
  sameBody: boolean;
  token: string;
  ruleChanged?: boolean;
}

export interface Follower {
  /** The stream has begun; records may follow at any time. */
  open(): void;
  record(record: TraceRecord): void;
  lost(count: number): void;
}

/**
 * followTrace hands over the kept records and then each new one as it happens, until signal aborts or the stream ends.
 * It is server-sent events over fetch, since an EventSource cannot carry a credential.
 */
export async function followTrace(api: Client, instanceId: string, query: Record<string, string>, to: Follower, signal: AbortSignal): Promise<void> {
  const answer = await api.send("GET", `${instanceId}/trace`, {
    query: { "api-version": version.webPubSub, ...query },
    headers: { accept: "text/event-stream" },
    signal,
  });
  if (answer.body === null) return;
  to.open();
  const events = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream()).getReader();
  for (;;) {
    const { value, done } = await events.read();
    if (done) return;
    if (value.event === "record") to.record(JSON.parse(value.data) as TraceRecord);
    if (value.event === "lost") to.lost((JSON.parse(value.data) as { lost: number }).lost);
  }
}
