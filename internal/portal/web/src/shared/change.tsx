import { Toast, ToastBody, ToastTitle, useToastController } from "@fluentui/react-components";
import { useState } from "react";
import type { Answer, Client } from "../api/client";
import { useApi, useRefresh } from "../app/api";

export const toasterId = "tabard";

/** A Change is something that the user has the service do: whether it is under way, and how the last one ended. */
export interface Change<A extends unknown[]> {
  busy: boolean;
  error: Error | null;
  warnings: string[];
  /** run resolves to whether it succeeded. */
  run(...args: A): Promise<boolean>;
  clear(): void;
}

/**
 * useChange wraps a request, or several: it reports progress and outcome, has every page ask anew afterwards, and tells of
 * the success in a toast.
 */
export function useChange<A extends unknown[]>(act: (api: Client, ...args: A) => Promise<Answer<unknown> | void>, success: string | ((...args: A) => string)): Change<A> {
  const api = useApi();
  const refresh = useRefresh();
  const { dispatchToast } = useToastController(toasterId);
  const [state, setState] = useState<{ busy: boolean; error: Error | null; warnings: string[] }>({ busy: false, error: null, warnings: [] });
  return {
    ...state,
    clear: () => setState({ busy: false, error: null, warnings: [] }),
    run: async (...args) => {
      setState({ busy: true, error: null, warnings: [] });
      try {
        const answer = await act(api, ...args);
        const warnings = answer?.warnings ?? [];
        await refresh();
        setState({ busy: false, error: null, warnings });
        dispatchToast(
          <Toast>
            <ToastTitle>{typeof success === "string" ? success : success(...args)}</ToastTitle>
            {warnings.length > 0 && <ToastBody>{warnings.join(" ")}</ToastBody>}
          </Toast>,
          { intent: warnings.length > 0 ? "warning" : "success", timeout: 4_000 },
        );
        return true;
      } catch (error) {
        setState({ busy: false, error: error instanceof Error ? error : new Error(String(error)), warnings: [] });
        return false;
      }
    },
  };
}
