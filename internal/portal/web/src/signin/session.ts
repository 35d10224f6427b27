import { useSyncExternalStore } from "react";

/** A Session is who uses the page in this tab: it is kept in sessionStorage and gone with the tab. */
export interface Session {
  token: string;
  kind: "admin" | "oidc";
  name: string;
}

const key = "tabard.session";
const listeners = new Set<() => void>();
let current = read();
let farewell = "";

function read(): Session | null {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "null") as Session | null;
  } catch {
    return null;
  }
}

function change(session: Session | null): void {
  current = session;
  if (session === null) sessionStorage.removeItem(key);
  else sessionStorage.setItem(key, JSON.stringify(session));
  for (const tell of listeners) tell();
}

export function startSession(session: Session): void {
  farewell = "";
  change(session);
}

/** endSession signs out; why is shown where the user signs in again. */
export function endSession(why = ""): void {
  farewell = why;
  change(null);
}

/** lastFarewell is why the last session ended, if it was not the user's wish. */
export function lastFarewell(): string {
  return farewell;
}

export function useSession(): Session | null {
  return useSyncExternalStore(
    (tell) => {
      listeners.add(tell);
      return () => listeners.delete(tell);
    },
    () => current,
  );
}

/**
 * takeLink signs in with the link that `tabard dev` prints: its token is in the fragment, which browsers send to nobody,
 * and is taken out of the address at once.
 */
export function takeLink(): void {
  const token = /^#token=([\w-]+)$/.exec(location.hash)?.[1];
  if (token === undefined) return;
  history.replaceState(null, "", `${location.pathname}#/`);
  startSession({ token, kind: "admin", name: "Admin token" });
}
