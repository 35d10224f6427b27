import { useEffect, useState } from "react";
import { ApiError } from "../api/client";
import { followTrace, type TraceRecord } from "../api/trace";
import { useApi } from "../app/api";

/** How many records the page keeps; older ones make room. */
const maxRows = 1_000;

export interface Stream {
  records: TraceRecord[]; // oldest first
  state: "connecting" | "live" | "paused";
  lost: number;
  error: Error | null;
  clear(): void;
}

/** useTrace follows the live trace while capturing, and comes back when the stream breaks. */
export function useTrace(instanceId: string, capturing: boolean): Stream {
  const api = useApi();
  const [records, setRecords] = useState<TraceRecord[]>([]);
  const [state, setState] = useState<Stream["state"]>("connecting");
  const [lost, setLost] = useState(0);
  const [error, setError] = useState<Error | null>(null);
  const [cleared, setCleared] = useState(0); // records up to this id are not shown
  useEffect(() => {
    if (!capturing) {
      setState("paused");
      return;
    }
    const stop = new AbortController();
    const follow = async () => {
      let last = 0;
      while (!stop.signal.aborted) {
        setState("connecting");
        try {
          await followTrace(
            api,
            instanceId,
            last === 0 ? { last: "200" } : { after: String(last) },
            {
              record: (r) => {
                last = r.id;
                setState("live");
                setRecords((old) => (old.some((o) => o.id === r.id) ? old : [...old, r].slice(-maxRows)));
              },
              lost: (n) => setLost((old) => old + n),
              open: () => {
                setState("live");
                setError(null);
              },
            },
            stop.signal,
          );
        } catch (cause) {
          if (stop.signal.aborted) return;
          setError(cause instanceof Error ? cause : new Error(String(cause)));
          if (cause instanceof ApiError && cause.status >= 400 && cause.status < 500) return;
        }
        await new Promise((resume) => setTimeout(resume, 1_000)); // before the next try
      }
    };
    void follow();
    return () => stop.abort();
  }, [api, instanceId, capturing]);
  return { records: records.filter((r) => r.id > cleared), state, lost, error, clear: () => setCleared(records.at(-1)?.id ?? 0) };
}
