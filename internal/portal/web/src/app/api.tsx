import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useMemo, useRef } from "react";
import { type Instance, type List, resourceGroup, segment, type Subscription, version } from "../api/arm";
import { ApiError, Client } from "../api/client";
import { endSession, type Session } from "../signin/session";

/** apiRoot is the admin address as this browser sees it: one level above the page, whatever is above that. */
export const apiRoot = new URL("../", new URL(location.pathname, location.origin));

export function clientFor(session: Session): Client {
  return new Client(apiRoot, session.token, endSession);
}

const ApiContext = createContext<Client | null>(null);

export function ApiProvider({ session, children }: { session: Session; children: ReactNode }) {
  const client = useMemo(() => clientFor(session), [session]);
  return <ApiContext value={client}>{children}</ApiContext>;
}

export function useApi(): Client {
  const api = useContext(ApiContext);
  if (api === null) throw new Error("useApi outside of a session");
  return api;
}

/** How often, in milliseconds, what others may change is asked for again. */
export const often = 2_000;
export const seldom = 10_000;

export function useSubscription() {
  const api = useApi();
  return useQuery<Subscription, ApiError>({
    queryKey: ["subscription"],
    queryFn: async () => {
      const first = (await api.get<List<Subscription>>("/subscriptions", { "api-version": version.resources })).value[0];
      if (first === undefined) throw new ApiError(404, "SubscriptionNotFound", "The service has no subscription.");
      return first;
    },
    staleTime: Infinity,
  });
}

/** A Reading is a document as it was last seen, and why it cannot be seen, if so. */
export interface Reading<T> {
  data: T | undefined;
  error: ApiError | null;
  dataUpdatedAt: number;
}

/**
 * useReading asks for a document of the control plane, again and again while the page shows it. An error stays until a
 * document comes, also while it is asked for again: what is on the page does not flicker.
 */
export function useReading<T>(key: string[], path: string | undefined, apiVersion: string | undefined, every: number = seldom, query: Record<string, string> = {}): Reading<T> {
  const api = useApi();
  const last = useRef<{ path: string | undefined; error: ApiError | null }>({ path, error: null });
  const { data, error, isSuccess, dataUpdatedAt } = useQuery<T, ApiError>({
    queryKey: [...key, path, query],
    queryFn: ({ signal }) => api.get<T>(path ?? "", { "api-version": apiVersion, ...query }, signal),
    enabled: path !== undefined,
    refetchInterval: every,
  });
  if (error !== null || isSuccess || last.current.path !== path) last.current = { path, error };
  return { data, error: last.current.error, dataUpdatedAt };
}

export function useInstances() {
  const { data } = useSubscription();
  const path = data && `/subscriptions/${data.subscriptionId}/providers/Microsoft.SignalRService/webPubSub`;
  return useReading<List<Instance>>(["instances"], path, version.webPubSub);
}

export function useInstance(id: string) {
  return useReading<Instance>(["instance"], id, version.webPubSub);
}

export function instanceId(subscription: string, group: string, name: string): string {
  return `/subscriptions/${subscription}/resourceGroups/${segment(group)}/providers/Microsoft.SignalRService/webPubSub/${segment(name)}`;
}

/** instancePath is a page of an instance, or what its pages' paths begin with. */
export function instancePath(id: string, name: string, page = "overview"): string {
  return `/instances/${segment(resourceGroup(id))}/${segment(name)}${page && `/${page}`}`;
}

/** useRefresh has everything asked for again, after a change. */
export function useRefresh(): () => Promise<void> {
  const queries = useQueryClient();
  return () => queries.invalidateQueries();
}
