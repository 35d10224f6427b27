import { useEffect, useState } from "react";

const length = 60;
const kept = new Map<string, number[]>();

/** useHistory keeps the readings of a value while the page is open, also over visits to other pages. */
export function useHistory(key: string, value: number | undefined, readAt: number): number[] {
  const [values, setValues] = useState(kept.get(key) ?? []);
  useEffect(() => {
    if (value === undefined) return;
    const next = [...(kept.get(key) ?? []), value].slice(-length);
    kept.set(key, next);
    setValues(next);
  }, [key, value, readAt]);
  return values;
}

const intervals = 30;
const interval = 20_000; // milliseconds

/** perInterval counts what happened in each 20 seconds of the last 10 minutes. */
export function perInterval(records: { time: string }[], now = Date.now()): number[] {
  const counts = new Array<number>(intervals).fill(0);
  for (const { time } of records) {
    const index = intervals - 1 - Math.floor((now - Date.parse(time)) / interval);
    const count = counts[index];
    if (count !== undefined) counts[index] = count + 1;
  }
  return counts;
}
