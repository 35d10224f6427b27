import { type Theme, webDarkTheme, webLightTheme } from "@fluentui/react-components";
import { useSyncExternalStore } from "react";

export type Mode = "light" | "dark";

const key = "tabard.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function mode(): Mode {
  const chosen = localStorage.getItem(key);
  if (chosen === "light" || chosen === "dark") return chosen;
  return system.matches ? "dark" : "light";
}

/** setMode chooses light or dark for this browser; until then it is as the system has it. */
export function setMode(chosen: Mode): void {
  localStorage.setItem(key, chosen);
  for (const tell of listeners) tell();
}

export function useTheme(): { mode: Mode; theme: Theme } {
  const now = useSyncExternalStore((tell) => {
    listeners.add(tell);
    system.addEventListener("change", tell);
    return () => {
      listeners.delete(tell);
      system.removeEventListener("change", tell);
    };
  }, mode);
  return { mode: now, theme: now === "dark" ? webDarkTheme : webLightTheme };
}
